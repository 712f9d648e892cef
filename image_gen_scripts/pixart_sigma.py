"""PixArt-Sigma (tier 3): a small diffusion transformer behind T5-XXL.

    python image_gen_scripts/pixart_sigma.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `pixart-sigma` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("pixart-sigma"))
