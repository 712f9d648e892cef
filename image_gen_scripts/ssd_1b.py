"""SSD-1B (tier 3): SDXL at half the size.

Run: python image_gen_scripts/ssd_1b.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("ssd-1b"))
