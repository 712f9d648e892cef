"""UniWorld-V1 (tier 2): Qwen2.5-VL conditions FLUX.1 [dev], by its authors' code.

Run: python image_gen_scripts/uniworld_v1.py --prompts prompts.parquet --output gendb/ --external-env envs/uniworld-v1
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("uniworld-v1"))
