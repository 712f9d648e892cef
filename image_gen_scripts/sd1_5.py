"""Stable Diffusion v1.5 (tier 3): 512x512; its safety checker's verdict becomes a reject.

Run: python image_gen_scripts/sd1_5.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="sd1-5",
    name="Stable Diffusion v1.5",
    tier=3,
    pipeline="StableDiffusionPipeline",
    variants={"sd1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 7.5, **square(512)},
            "512x512, the model's own size; the published script asks for 1024x1024",
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)},
            note="the published script: guidance 3.5, and 1024x1024 from a model of 512x512",
        ),
    },
    memory_gib=4,
    licence="creativeml-openrail-m",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
