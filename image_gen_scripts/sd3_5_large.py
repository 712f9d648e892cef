"""Stable Diffusion 3.5 Large (tier 2): three text encoders; gated.

Run: python image_gen_scripts/sd3_5_large.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sd3-5-large"))
