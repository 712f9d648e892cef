"""NanoBanana (tier 1): Gemini 3.1 Flash Image, paid; the published script's preview id of it has been shut down.

Run: GEMINI_API_KEY=... python image_gen_scripts/nanobanana.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.google_images import GoogleImages
from dyneval.generation.families.hosted import HostedSpec
from dyneval.generation.model import Preset

MODEL = HostedSpec(
    slug="nanobanana",
    name="NanoBanana",
    tier=1,
    keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    packages=("google.genai",),
    model=GoogleImages,
    variants={"3.1-flash-image": "gemini-3.1-flash-image", "2.5-flash-image": "gemini-2.5-flash-image"},
    presets={
        "recommended": Preset(
            {"response_modalities": ["IMAGE"], "aspect_ratio": "1:1", "image_size": "1K"},
            "square images by the current id; the published script's id has been shut down",
        ),
        "paper": Preset(
            {"response_modalities": ["TEXT", "IMAGE"]},
            "size and shape are the service's; the id was listed for shutdown on 2026-06-25",
            repo="gemini-3.1-flash-image-preview",
        ),
    },
    licence="paid API",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
