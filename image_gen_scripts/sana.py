"""Sana 1.5 (tier 2): a linear-attention transformer; the pipeline wraps every prompt in an instruction.

    python image_gen_scripts/sana.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `sana` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("sana"))
