"""SDXL-Turbo (tier 3): distilled for 1 to 4 steps without guidance at 512x512.

    python image_gen_scripts/sdxl_turbo.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `sdxl-turbo` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sdxl-turbo"))
