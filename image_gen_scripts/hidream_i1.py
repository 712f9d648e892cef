"""HiDream-I1 (tier 1): four text encoders, one of them Llama 3.1, whose licence must be accepted.

    python image_gen_scripts/hidream_i1.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `hidream-i1` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("hidream-i1"))
