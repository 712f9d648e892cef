"""FIBO 2 (tier 1): draws from JSON, which a model of its authors, code and all, writes first.

    python image_gen_scripts/fibo_2.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `fibo-2` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("fibo-2"))
