"""FLUX.1 [dev] (tier 2): guidance-distilled, one forward a step; gated, non-commercial.

Run: python image_gen_scripts/flux1_dev.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="flux1-dev",
    name="FLUX.1 [dev]",
    tier=2,
    pipeline="FluxPipeline",
    variants={"dev": "black-forest-labs/FLUX.1-dev"},
    presets={
        "recommended": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024), "max_sequence_length": 512}
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024), "max_sequence_length": 512},
            note="as recommended",
        ),
    },
    memory_gib=34,
    licence="FLUX.1 [dev] Non-Commercial",
    gated=True,
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
