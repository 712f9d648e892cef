"""Kolors (tier 2): SDXL-like, behind a ChatGLM3 text encoder.

    python image_gen_scripts/kolors.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `kolors` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("kolors"))
