"""UniPic (tier 2): masked autoregression on Qwen2.5-1.5B, by its authors' code.

    python image_gen_scripts/unipic.py --prompts prompts.parquet --output gendb/ --external-env envs/unipic

Its settings are the table `unipic` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("unipic"))
