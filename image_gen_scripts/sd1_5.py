"""Stable Diffusion v1.5 (tier 3): 512x512; its safety checker's verdict becomes a reject.

    python image_gen_scripts/sd1_5.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `sd1-5` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sd1-5"))
