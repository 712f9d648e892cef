"""SSD-1B (tier 3): SDXL at half the size.

    python image_gen_scripts/ssd_1b.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `ssd-1b` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("ssd-1b"))
