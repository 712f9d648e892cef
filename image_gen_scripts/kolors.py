"""Kolors (tier 2): SDXL-like, behind a ChatGLM3 text encoder.

Run: python image_gen_scripts/kolors.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="kolors",
    name="Kolors",
    tier=2,
    pipeline="KolorsPipeline",
    variants={"kolors": "Kwai-Kolors/Kolors-diffusers"},
    presets={
        "recommended": Preset({"num_inference_steps": 50, "guidance_scale": 5.0, **square(1024)}),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 5.0, **square(1024)},
            note="as recommended; the published script uses the authors' checkpoint layout and code",
        ),
    },
    dtype="float16",
    load={"variant": "fp16"},
    packages=("sentencepiece",),
    memory_gib=18,
    licence="Apache-2.0; commercial use needs registration",
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
