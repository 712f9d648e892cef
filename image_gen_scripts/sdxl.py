"""Stable Diffusion XL (tier 3): the base model, without its refiner.

Run: python image_gen_scripts/sdxl.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sdxl"))
