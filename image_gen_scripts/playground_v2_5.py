"""Playground v2.5 (tier 3): SDXL trained for taste, with its own EDM scheduler.

    python image_gen_scripts/playground_v2_5.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `playground-v2-5` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("playground-v2-5"))
