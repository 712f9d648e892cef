"""Kandinsky 3 (tier 2): a large UNet behind FLAN-UL2.

    python image_gen_scripts/kandinsky_3.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `kandinsky-3` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("kandinsky-3"))
