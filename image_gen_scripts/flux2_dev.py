"""FLUX.2 [dev] (tier 1): a 32B transformer behind a 24B text encoder; gated, non-commercial.

    python image_gen_scripts/flux2_dev.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `flux2-dev` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("flux2-dev"))
