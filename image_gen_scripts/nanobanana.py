"""NanoBanana (tier 1): Gemini 3.1 Flash Image, paid; the published script's preview id of it has been shut down.

Run: GEMINI_API_KEY=... python image_gen_scripts/nanobanana.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `nanobanana` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("nanobanana"))
