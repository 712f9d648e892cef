"""DeepFloyd IF-XL (tier 3): three stages, 64 to 256 to 1024 pixels; gated. The published script stops at 64.

Run: python image_gen_scripts/if_xl.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.deepfloyd import DeepFloyd
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset

STAGES = {
    "stage_1": {"num_inference_steps": 100, "guidance_scale": 7.0},
    "stage_2": {"num_inference_steps": 50, "guidance_scale": 4.0},
    "stage_3": {"num_inference_steps": 75, "guidance_scale": 9.0, "noise_level": 100},
}
MODEL = DiffusersSpec(
    slug="if-xl",
    name="DeepFloyd IF-XL",
    tier=3,
    pipeline="IFPipeline",
    model=DeepFloyd,
    variants={"xl": "DeepFloyd/IF-I-XL-v1.0"},
    parts={"stage_2": "DeepFloyd/IF-II-L-v1.0", "stage_3": "stabilityai/stable-diffusion-x4-upscaler"},
    presets={
        "recommended": Preset(
            STAGES, "all three stages, 1024x1024; the published script stops after the first, at 64x64"
        ),
        "paper": Preset({"stage_1": STAGES["stage_1"]}, "the published script runs stage I alone: 64x64 images"),
    },
    dtype="float16",
    load={"variant": "fp16"},
    memory_gib=26,
    licence="DeepFloyd IF",
    gated=True,
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
