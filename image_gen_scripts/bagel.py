"""Bagel (tier 2): one transformer for text and images, by its authors' code.

Run: python image_gen_scripts/bagel.py --prompts prompts.parquet --output gendb/ --external-env envs/bagel
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset

MODEL = ExternalSpec(
    slug="bagel",
    name="Bagel",
    tier=2,
    adapter=ADAPTERS / "bagel.py",
    code="https://github.com/ByteDance-Seed/Bagel",
    variants={"7b-mot": "ByteDance-Seed/BAGEL-7B-MoT"},
    presets={
        name: Preset(
            {
                "image_size": 1024,
                "num_timesteps": 50,
                "timestep_shift": 3.0,
                "cfg_text_scale": 4.0,
                "cfg_img_scale": 1.0,
                "cfg_interval": [0.4, 1.0],
                "cfg_renorm_min": 0.0,
                "cfg_renorm_type": "global",
            },
            "the published script's settings are the authors'",
        )
        for name in ("recommended", "paper")
    },
    memory_gib=32,
    licence="Apache-2.0",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
