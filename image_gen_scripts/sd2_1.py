"""Stable Diffusion v2.1 (tier 3): 768x768; from a mirror, since the authors took theirs down.

    python image_gen_scripts/sd2_1.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `sd2-1` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sd2-1"))
