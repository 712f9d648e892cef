"""FLUX.1 [dev] (tier 2): guidance-distilled, one forward a step; gated, non-commercial.

Run: python image_gen_scripts/flux1_dev.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("flux1-dev"))
