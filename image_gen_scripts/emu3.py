"""Emu3 (tier 3): writes 8,100 image tokens row by row, 720x720, which takes minutes; the transformers port.

Run: python image_gen_scripts/emu3.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.emu3 import Emu3
from dyneval.generation.families.transformers import TransformersSpec
from dyneval.generation.model import Preset

SETTINGS = {
    "guidance_scale": 3.0,
    "top_k": 2048,
    "image_area": 518400,
    "negative_prompt": "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, "
    "cropped, worst quality, low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry.",
}
SUFFIX = " masterpiece, film grained, best quality."
MODEL = TransformersSpec(
    slug="emu3",
    name="Emu3",
    tier=3,
    model_class="Emu3ForConditionalGeneration",
    processor_class="Emu3Processor",
    model=Emu3,
    variants={"gen": "BAAI/Emu3-Gen-hf"},
    presets={
        "recommended": Preset(SETTINGS, "720x720; the published script enlarges and is unseeded", prompt_suffix=SUFFIX),
        "paper": Preset({**SETTINGS, "enlarge_to": 1024}, "enlarged to 1024x1024 and unseeded", prompt_suffix=SUFFIX),
    },
    memory_gib=20,
    licence="Apache-2.0",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
