"""OmniGen (tier 2): one transformer for text and image; the diffusers port of the authors' weights.

Run: python image_gen_scripts/omnigen.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("omnigen"))
