"""SSD-1B (tier 3): SDXL at half the size.

Run: python image_gen_scripts/ssd_1b.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="ssd-1b",
    name="SSD-1B",
    tier=3,
    pipeline="StableDiffusionXLPipeline",
    variants={"ssd-1b": "segmind/SSD-1B"},
    presets={
        "recommended": Preset(
            {
                "num_inference_steps": 50,
                "guidance_scale": 9.0,
                **square(1024),
                "negative_prompt": "ugly, blurry, poor quality",
            },
            "the authors' guidance and negative prompt; the published script has neither",
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)},
            dtype="bfloat16",
            note="the published script: guidance 3.5 and no negative prompt, against the authors' advice",
        ),
    },
    dtype="float16",
    load={"variant": "fp16"},
    memory_gib=5,
    licence="Apache-2.0",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
