"""Krea 2 (tier 1): a 12B transformer behind Qwen3-VL; Turbo draws in eight steps without guidance.

Run: python image_gen_scripts/krea_2.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("krea-2"))
