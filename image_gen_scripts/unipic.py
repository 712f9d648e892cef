"""UniPic (tier 2): masked autoregression on Qwen2.5-1.5B, by its authors' code.

Run: python image_gen_scripts/unipic.py --prompts prompts.parquet --output gendb/ --external-env envs/unipic
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("unipic"))
