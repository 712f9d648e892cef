"""DeepFloyd IF-XL (tier 3): three stages, 64 to 256 to 1024 pixels; gated. The published script stops at 64.

    python image_gen_scripts/if_xl.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `if-xl` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("if-xl"))
