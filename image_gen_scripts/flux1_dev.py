"""FLUX.1 [dev] (tier 2): guidance-distilled, one forward a step; gated, non-commercial.

    python image_gen_scripts/flux1_dev.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `flux1-dev` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("flux1-dev"))
