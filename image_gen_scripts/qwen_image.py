"""Qwen-Image (tier 2): strong at text in images; its authors append a few words of praise to every prompt.

    python image_gen_scripts/qwen_image.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `qwen-image` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("qwen-image"))
