"""Janus-Pro (tier 2): writes 576 image tokens, 384x384; the transformers port of the authors' weights.

    python image_gen_scripts/janus_pro.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `janus-pro` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("janus-pro"))
