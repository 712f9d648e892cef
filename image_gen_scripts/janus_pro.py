"""Janus-Pro (tier 2): writes 576 image tokens, 384x384; the transformers port of the authors' weights.

Run: python image_gen_scripts/janus_pro.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("janus-pro"))
