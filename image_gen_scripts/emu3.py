"""Emu3 (tier 3): writes 8,100 image tokens row by row, 720x720, which takes minutes; the transformers port.

Run: python image_gen_scripts/emu3.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("emu3"))
