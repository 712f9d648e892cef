"""FLUX.2 [klein] (tier 1): four steps when distilled; the 9B weights are gated and non-commercial.

Run: python image_gen_scripts/flux2_klein.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("flux2-klein"))
