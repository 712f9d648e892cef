"""GPT-Image-1.5 (tier 1): the OpenAI images API, paid, unseeded. The id shuts down on 2026-12-01: see the variants.

Run: OPENAI_API_KEY=... python image_gen_scripts/gpt_image_1_5.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.hosted import HostedSpec
from dyneval.generation.families.openai_images import OpenAIImages
from dyneval.generation.model import Preset

MODEL = HostedSpec(
    slug="gpt-image-1-5",
    name="GPT-Image-1.5",
    tier=1,
    keys=("OPENAI_API_KEY",),
    packages=("openai",),
    model=OpenAIImages,
    variants={
        "1.5": "gpt-image-1.5",
        "2.6-sunburst": "gpt-image-2.6-sunburst",  # named by OpenAI as replacements
        "2.6-flare": "gpt-image-2.6-flare",
    },
    presets={
        "recommended": Preset(
            {"size": "1024x1024", "quality": "auto"},
            "quality is set to what it is when unset, as in the published script",
        ),
        "paper": Preset({"size": "1024x1024"}, "as recommended: an unset quality is auto"),
    },
    licence="paid API",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
