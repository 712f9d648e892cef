"""Nucleus-Image (tier 2): a mixture of experts, 17B with 2B at work, behind Qwen3-VL; not tuned to preferences.

    python image_gen_scripts/nucleus_image.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `nucleus-image` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("nucleus-image"))
