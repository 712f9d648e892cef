"""PixArt-alpha (tier 2): a small diffusion transformer; the published script loads PixArt-Sigma instead.

    python image_gen_scripts/pixart_alpha.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `pixart-alpha` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("pixart-alpha"))
