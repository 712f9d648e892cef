"""UniPic (tier 2): masked autoregression on Qwen2.5-1.5B, by its authors' code.

Run: python image_gen_scripts/unipic.py --prompts prompts.parquet --output gendb/ --external-env envs/unipic
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset

MODEL = ExternalSpec(
    slug="unipic",
    name="UniPic",
    tier=2,
    adapter=ADAPTERS / "unipic.py",
    code="https://github.com/SkyworkAI/UniPic",
    variants={"1.5b": "Skywork/Skywork-UniPic-1.5B"},
    presets={
        name: Preset(
            {"image_size": 1024, "num_iter": rounds, "cfg": 3.0, "cfg_schedule": "constant", "temperature": 1.0}, note
        )
        for name, rounds, note in (
            ("recommended", 48, "as the authors' script"),
            ("paper", 32, "the published script: 32 rounds instead of 48"),
        )
    },
    memory_gib=12,
    licence="not stated with the weights; the code builds on Harmon (S-Lab License 1.0, non-commercial)",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
