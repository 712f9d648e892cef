"""In-Context LoRA (tier 2): FLUX.1 [dev] with one of ten LoRA files, made for sets of panels; the variant names it.

Run: python image_gen_scripts/in_context_lora.py --prompts prompts.parquet --output gendb/ --variant film-storyboard
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

FILES = (
    *("couple-profile", "film-storyboard", "font-design", "home-decoration", "portrait-illustration"),
    *("portrait-photography", "ppt-templates", "sandstorm-visual-effect", "sparklers-visual-effect"),
    "visual-identity-design",
)
FLUX = {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024)}
MODEL = DiffusersSpec(
    slug="in-context-lora",
    name="In-Context LoRA",
    tier=2,
    pipeline="FluxPipeline",
    variants=dict.fromkeys(FILES, "black-forest-labs/FLUX.1-dev"),
    parts={"lora": "ali-vilab/In-Context-LoRA"},
    presets={
        "recommended": Preset(FLUX),
        "paper": Preset(FLUX, "the published script names no file: diffusers takes the first, or stops with an error"),
    },
    packages=("peft",),
    memory_gib=34,
    licence="MIT; base FLUX.1 [dev] Non-Commercial",
    gated=True,
    batch_size=4,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
