"""Z-Image (tier 2): the base model, or Turbo in eight steps without guidance.

Run: python image_gen_scripts/z_image.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="z-image",
    name="Z-Image",
    tier=2,
    pipeline="ZImagePipeline",
    variants={"base": "Tongyi-MAI/Z-Image", "turbo": "Tongyi-MAI/Z-Image-Turbo"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 4.0, **square(1024)},
            "the published script takes the guidance of another model, and names no variant",
            by_variant={"turbo": {"num_inference_steps": 8, "guidance_scale": 0.0}},
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)},
            note="the published script names no variant; its 50 steps and guidance 3.5 suit the base model only",
        ),
    },
    memory_gib=24,
    licence="Apache-2.0",
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
