"""Kolors (tier 2): SDXL-like, behind a ChatGLM3 text encoder.

Run: python image_gen_scripts/kolors.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("kolors"))
