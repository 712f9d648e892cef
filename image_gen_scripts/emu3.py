"""Emu3 (tier 3): writes 8,100 image tokens row by row, 720x720, which takes minutes; the transformers port.

    python image_gen_scripts/emu3.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `emu3` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("emu3"))
