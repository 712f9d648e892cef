"""OmniGen2 (tier 2): a diffusion transformer behind Qwen2.5-VL, by its authors' code.

Run: python image_gen_scripts/omnigen2.py --prompts prompts.parquet --output gendb/ --external-env envs/omnigen2
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.external import ADAPTERS, ExternalSpec
from dyneval.generation.model import Preset, square

NEGATIVE = (
    "(((deformed))), blurry, over saturation, bad anatomy, disfigured, poorly drawn face, mutation, mutated, "
    "(extra_limb), (ugly), (poorly drawn hands), fused fingers, messy drawing, broken legs censor, censored, censor_bar"
)
SETTINGS = {"num_inference_steps": 50, "max_sequence_length": 1024, **square(1024), "negative_prompt": NEGATIVE}
MODEL = ExternalSpec(
    slug="omnigen2",
    name="OmniGen2",
    tier=2,
    adapter=ADAPTERS / "omnigen2.py",
    code="https://github.com/VectorSpaceLab/OmniGen2",
    variants={"omnigen2": "OmniGen2/OmniGen2"},
    presets={
        "recommended": Preset({**SETTINGS, "text_guidance_scale": 4.0}, "as the authors' example"),
        "paper": Preset({**SETTINGS, "text_guidance_scale": 5.0}, "no batch script was published: its default"),
    },
    memory_gib=18,
    licence="Apache-2.0",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
