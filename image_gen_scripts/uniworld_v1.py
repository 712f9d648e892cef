"""UniWorld-V1 (tier 2): Qwen2.5-VL conditions FLUX.1 [dev], by its authors' code.

    python image_gen_scripts/uniworld_v1.py --prompts prompts.parquet --output gendb/ --external-env envs/uniworld-v1

Its settings are the table `uniworld-v1` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("uniworld-v1"))
