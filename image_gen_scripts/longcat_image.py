"""LongCat-Image (tier 1): its text encoder rewrites every prompt first. Text to be drawn must stand in quotes.

    python image_gen_scripts/longcat_image.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `longcat-image` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("longcat-image"))
