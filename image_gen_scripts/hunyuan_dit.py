"""Hunyuan-DiT (tier 2): version 1.2, English and Chinese.

Run: python image_gen_scripts/hunyuan_dit.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="hunyuan-dit",
    name="Hunyuan-DiT",
    tier=2,
    pipeline="HunyuanDiTPipeline",
    variants={"v1.2": "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 5.0, **square(1024)},
            "the published script adds a negative prompt and is unseeded",
        ),
        "paper": Preset(
            {
                "num_inference_steps": 50,
                "guidance_scale": 5.0,
                **square(1024),
                "negative_prompt": "blurry, low quality",
            },
            note="the published script is unseeded",
        ),
    },
    dtype="float16",
    memory_gib=14,
    licence="Tencent Hunyuan Community",
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
