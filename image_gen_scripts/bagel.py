"""Bagel (tier 2): one transformer for text and images, by its authors' code.

    python image_gen_scripts/bagel.py --prompts prompts.parquet --output gendb/ --external-env envs/bagel

Its settings are the table `bagel` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("bagel"))
