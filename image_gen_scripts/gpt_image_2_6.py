"""GPT-Image-2.6 (tier 1): a model of the OpenAI images API, paid and unseeded.

Run: OPENAI_API_KEY=... python image_gen_scripts/gpt_image_2_6.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `gpt-image-2-6` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("gpt-image-2-6"))
