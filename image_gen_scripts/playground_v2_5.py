"""Playground v2.5 (tier 3): SDXL trained for taste, with its own EDM scheduler.

Run: python image_gen_scripts/playground_v2_5.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("playground-v2-5"))
