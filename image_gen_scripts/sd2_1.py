"""Stable Diffusion v2.1 (tier 3): 768x768; from a mirror, since the authors took theirs down.

Run: python image_gen_scripts/sd2_1.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sd2-1"))
