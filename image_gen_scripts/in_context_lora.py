"""In-Context LoRA (tier 2): FLUX.1 [dev] with one of ten LoRA files, made for sets of panels; the variant names it.

    python image_gen_scripts/in_context_lora.py --prompts prompts.parquet --output gendb/ --variant film-storyboard

Its settings are the table `in-context-lora` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("in-context-lora"))
