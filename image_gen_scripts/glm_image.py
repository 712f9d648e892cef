"""GLM-Image (tier 2): a 9B model samples image tokens, a 7B transformer draws them; one prompt a call.

    python image_gen_scripts/glm_image.py --prompts prompts.parquet --output gendb/ --limit 100

Its settings are the table `glm-image` of dyneval/data/models.toml; `--help` lists the presets.
"""

from dyneval.cli.generate import run_model

if __name__ == "__main__":
    raise SystemExit(run_model("glm-image"))
