"""Janus-Pro (tier 2): writes 576 image tokens, 384x384; the transformers port of the authors' weights.

Run: python image_gen_scripts/janus_pro.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.janus import Janus
from dyneval.generation.families.transformers import TransformersSpec
from dyneval.generation.model import Preset

MODEL = TransformersSpec(
    slug="janus-pro",
    name="Janus-Pro",
    tier=2,
    model_class="JanusForConditionalGeneration",
    processor_class="JanusProcessor",
    model=Janus,
    variants={"7b": "deepseek-community/Janus-Pro-7B", "1b": "deepseek-community/Janus-Pro-1B"},
    presets={
        "recommended": Preset({"guidance_scale": 5.0, "temperature": 1.0}),
        "paper": Preset({"guidance_scale": 5.0, "temperature": 1.0}, "as recommended, with the authors' own code"),
    },
    memory_gib=18,
    licence="DeepSeek Model License",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
