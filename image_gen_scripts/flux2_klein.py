"""FLUX.2 [klein] (tier 1): four steps when distilled; the 9B weights are gated and non-commercial.

    python image_gen_scripts/flux2_klein.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `flux2-klein` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("flux2-klein"))
