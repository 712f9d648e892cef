"""Stable Diffusion XL (tier 3): the base model, without its refiner.

Run: python image_gen_scripts/sdxl.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="sdxl",
    name="Stable Diffusion XL",
    tier=3,
    pipeline="StableDiffusionXLPipeline",
    variants={"sdxl": "stabilityai/stable-diffusion-xl-base-1.0"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 5.0, **square(1024)},
            "the authors' guidance; the published script takes 3.5 over from another model",
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)},
            dtype="bfloat16",
            note="the published script: guidance 3.5, taken over from another model",
        ),
    },
    dtype="float16",
    load={"variant": "fp16"},
    memory_gib=8,
    licence="openrail++",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
