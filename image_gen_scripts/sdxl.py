"""Stable Diffusion XL (tier 3): the base model, without its refiner.

    python image_gen_scripts/sdxl.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `sdxl` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sdxl"))
