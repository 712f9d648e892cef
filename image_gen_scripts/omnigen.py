"""OmniGen (tier 2): one transformer for text and image; the diffusers port of the authors' weights.

    python image_gen_scripts/omnigen.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `omnigen` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("omnigen"))
