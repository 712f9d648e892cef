"""Qwen-Image-2.1 (tier 1): a 7B single-stream transformer behind Qwen3-VL, without guidance.

    python image_gen_scripts/qwen_image_2_1.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `qwen-image-2-1` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("qwen-image-2-1"))
