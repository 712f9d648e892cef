"""FLUX.2 [klein] (tier 1): four steps when distilled; the 9B weights are gated and non-commercial.

Run: python image_gen_scripts/flux2_klein.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="flux2-klein",
    name="FLUX.2 [klein]",
    tier=1,
    pipeline="Flux2KleinPipeline",
    variants={
        "4b": "black-forest-labs/FLUX.2-klein-4B",
        "9b": "black-forest-labs/FLUX.2-klein-9B",
        "base-4b": "black-forest-labs/FLUX.2-klein-base-4B",
        "base-9b": "black-forest-labs/FLUX.2-klein-base-9B",
    },
    presets={
        "recommended": Preset(
            {"num_inference_steps": 4, "guidance_scale": 1.0, **square(1024)},
            "4 steps for the distilled weights; the published script runs 50, and names no variant",
            by_variant={name: {"num_inference_steps": 50, "guidance_scale": 4.0} for name in ("base-4b", "base-9b")},
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)},
            note="the published script names no variant; distilled weights ignore the guidance and need 4 steps",
        ),
    },
    memory_gib=20,
    licence="4B Apache-2.0; 9B FLUX Non-Commercial, gated",
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
