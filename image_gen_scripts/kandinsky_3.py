"""Kandinsky 3 (tier 2): a large UNet behind FLAN-UL2.

Run: python image_gen_scripts/kandinsky_3.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("kandinsky-3"))
