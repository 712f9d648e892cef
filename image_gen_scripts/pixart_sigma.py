"""PixArt-Sigma (tier 3): a small diffusion transformer behind T5-XXL.

Run: python image_gen_scripts/pixart_sigma.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("pixart-sigma"))
