"""Z-Image (tier 2): the base model, or Turbo in eight steps without guidance.

    python image_gen_scripts/z_image.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `z-image` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("z-image"))
