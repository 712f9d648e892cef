"""Playground v2.5 (tier 3): SDXL trained for taste, with its own EDM scheduler.

Run: python image_gen_scripts/playground_v2_5.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="playground-v2-5",
    name="Playground v2.5",
    tier=3,
    pipeline="StableDiffusionXLPipeline",
    variants={"playground-v2-5": "playgroundai/playground-v2.5-1024px-aesthetic"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.0, **square(1024)},
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
    licence="Playground v2.5 Community",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
