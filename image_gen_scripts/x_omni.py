"""X-Omni (tier 2): a language model writes image tokens, FLUX.1 [dev] decodes them; its code comes with its weights.

Run: python image_gen_scripts/x_omni.py --prompts prompts.parquet --output gendb/ --external-env envs/x-omni
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset

MODEL = ExternalSpec(
    slug="x-omni",
    name="X-Omni",
    tier=2,
    adapter=ADAPTERS / "x_omni.py",
    code="https://github.com/X-Omni-Team/X-Omni",
    variants={"en": "X-Omni/X-Omni-En", "zh": "X-Omni/X-Omni-Zh"},
    parts={"flux": "black-forest-labs/FLUX.1-dev"},
    presets={
        name: Preset(
            {"image_size": 1152, "guidance_scale": 1.0, "temperature": 1.0, "min_p": 0.03, "top_p": 1.0},
            "the published script's settings are the authors'",
        )
        for name in ("recommended", "paper")
    },
    memory_gib=56,
    licence="Apache-2.0 (code); FLUX.1 [dev] Non-Commercial",
    gated=True,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
