"""Ideogram 4 (tier 1): trained on JSON captions, strong at text and layout; weights of 4 bits; gated, non-commercial.

    python image_gen_scripts/ideogram_4.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `ideogram-4` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("ideogram-4"))
