"""Hunyuan-DiT (tier 2): version 1.2, English and Chinese.

    python image_gen_scripts/hunyuan_dit.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `hunyuan-dit` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("hunyuan-dit"))
