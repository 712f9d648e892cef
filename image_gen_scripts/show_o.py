"""Show-o (tier 2): discrete diffusion on phi-1.5, 512x512, by its authors' code.

    python image_gen_scripts/show_o.py --prompts prompts.parquet --output gendb/ --external-env envs/show-o

Its settings are the table `show-o` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("show-o"))
