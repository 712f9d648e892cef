"""LlamaGen (tier 3): a plain language model over image codes, 512x512, by its authors' code.

    python image_gen_scripts/llamagen.py --prompts prompts.parquet --output gendb/ --external-env envs/llamagen

Its settings are the table `llamagen` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("llamagen"))
