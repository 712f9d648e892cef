"""Stable Diffusion 3.5 Large (tier 2): three text encoders; gated.

    python image_gen_scripts/sd3_5_large.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `sd3-5-large` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sd3-5-large"))
