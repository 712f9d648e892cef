"""FLUX.2 [dev] (tier 1): a 32B transformer behind a 24B text encoder; gated, non-commercial.

Run: python image_gen_scripts/flux2_dev.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="flux2-dev",
    name="FLUX.2 [dev]",
    tier=1,
    pipeline="Flux2Pipeline",
    variants={"dev": "black-forest-labs/FLUX.2-dev"},
    presets={
        "recommended": Preset({"num_inference_steps": 50, "guidance_scale": 4.0, **square(1024)}),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 4.0, **square(1024)},
            note="as recommended; the published script splits the model over GPUs, here it is offloaded on one",
        ),
    },
    memory_gib=112,
    licence="FLUX Non-Commercial",
    gated=True,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
