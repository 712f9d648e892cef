"""PixArt-alpha (tier 2): a small diffusion transformer; the published script loads PixArt-Sigma instead.

Run: python image_gen_scripts/pixart_alpha.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("pixart-alpha"))
