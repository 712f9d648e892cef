"""ERNIE-Image (tier 1): an 8B transformer; a model of its own rewrites every prompt first.

    python image_gen_scripts/ernie_image.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `ernie-image` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("ernie-image"))
