"""FIBO (tier 1): draws from JSON alone, which a model of its authors, code and all, writes first; gated.

Run: python image_gen_scripts/fibo.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("fibo"))
