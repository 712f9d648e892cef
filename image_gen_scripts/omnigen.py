"""OmniGen (tier 2): one transformer for text and image; the diffusers port of the authors' weights.

Run: python image_gen_scripts/omnigen.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="omnigen",
    name="OmniGen",
    tier=2,
    pipeline="OmniGenPipeline",
    variants={"v1": "Shitao/OmniGen-v1-diffusers"},
    presets={
        "recommended": Preset({"num_inference_steps": 50, "guidance_scale": 2.5, **square(1024)}),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 2.5, **square(1024)},
            note="the published script runs the authors' own code and weights (Shitao/OmniGen-v1), here it is the port",
        ),
    },
    packages=("torchvision",),
    memory_gib=12,
    licence="MIT",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
