"""Z-Image (tier 2): the base model, or Turbo in eight steps without guidance.

Run: python image_gen_scripts/z_image.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("z-image"))
