"""GPT-Image-1.5 (tier 1): the OpenAI images API, paid, unseeded. Its id shuts down on 2026-12-01.

Run: OPENAI_API_KEY=... python image_gen_scripts/gpt_image_1_5.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `gpt-image-1-5` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("gpt-image-1-5"))
