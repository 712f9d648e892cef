"""Krea 2 (tier 1): a 12B transformer behind Qwen3-VL; Turbo draws in eight steps without guidance.

    python image_gen_scripts/krea_2.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `krea-2` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("krea-2"))
