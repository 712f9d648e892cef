"""PixArt-alpha (tier 2): a small diffusion transformer; the published script loads PixArt-Sigma instead.

Run: python image_gen_scripts/pixart_alpha.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersSpec
from dyneval.generation.model import Preset, square

MODEL = DiffusersSpec(
    slug="pixart-alpha",
    name="PixArt-alpha",
    tier=2,
    pipeline="PixArtAlphaPipeline",
    variants={"xl-1024": "PixArt-alpha/PixArt-XL-2-1024-MS"},
    presets={
        # clean_caption would rewrite prompts, and only where two more packages happen to be installed.
        "recommended": Preset(
            {"num_inference_steps": 20, "guidance_scale": 4.5, **square(1024), "clean_caption": False},
            "the authors' weights; the published script loads PixArt-Sigma instead",
        ),
        "paper": Preset(
            {"num_inference_steps": 50, "guidance_scale": 3.5, **square(1024), "clean_caption": False},
            "the published script loads PixArt-Sigma. With it both models draw the same images, yet their published "
            "scores differ (0.685 and 0.425): it cannot be what made them",
            repo="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            pipeline="PixArtSigmaPipeline",
            dtype="bfloat16",
        ),
    },
    dtype="float16",
    memory_gib=14,
    licence="openrail++",
    batch_size=8,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
