"""X-Omni (tier 2): a language model writes image tokens, FLUX.1 [dev] decodes them; its code comes with its weights.

    python image_gen_scripts/x_omni.py --prompts prompts.parquet --output gendb/ --external-env envs/x-omni

Its settings are the table `x-omni` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("x-omni"))
