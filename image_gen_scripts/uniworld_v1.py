"""UniWorld-V1 (tier 2): Qwen2.5-VL conditions FLUX.1 [dev], by its authors' code.

Run: python image_gen_scripts/uniworld_v1.py --prompts prompts.parquet --output gendb/ --external-env envs/uniworld-v1
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset, square

MODEL = ExternalSpec(
    slug="uniworld-v1",
    name="UniWorld-V1",
    tier=2,
    adapter=ADAPTERS / "uniworld_v1.py",
    code="https://github.com/PKU-YuanGroup/UniWorld-V1",
    variants={"v1": "LanguageBind/UniWorld-V1"},
    parts={"flux": "black-forest-labs/FLUX.1-dev"},
    presets={
        name: Preset(
            {"num_inference_steps": 28, "guidance_scale": 3.5, **square(1024)},
            "the published script's settings are the authors'; like it, this never lets the model answer in words",
        )
        for name in ("recommended", "paper")
    },
    memory_gib=56,
    licence="MIT; FLUX.1 [dev] Non-Commercial",
    gated=True,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
