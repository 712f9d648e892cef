"""FIBO (tier 1): draws from JSON alone, which a model of its authors, code and all, writes first; gated.

    python image_gen_scripts/fibo.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `fibo` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("fibo"))
