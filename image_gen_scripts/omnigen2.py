"""OmniGen2 (tier 2): a diffusion transformer behind Qwen2.5-VL, by its authors' code.

    python image_gen_scripts/omnigen2.py --prompts prompts.parquet --output gendb/ --external-env envs/omnigen2

Its settings are the table `omnigen2` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("omnigen2"))
