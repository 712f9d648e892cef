"""LongCat-Image (tier 1): its text encoder rewrites every prompt first. Text to be drawn must stand in quotes.

Run: python image_gen_scripts/longcat_image.py --prompts prompts.parquet --output gendb/ --limit 100
"""

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersModel, DiffusersSpec
from dyneval.generation.model import Preset, Request, square


class LongCat(DiffusersModel):
    """Rewrites before the call, from the image's own seed: inside the call the text would be lost and unseeded."""

    def wording(self, request: Request) -> str:
        """The prompt as the text encoder rewrites it."""
        if not self.arguments["enable_prompt_rewrite"]:
            return request.prompt
        return self.pipeline.rewire_prompt(request.prompt, self.device)[0]

    def call_arguments(self, count: int) -> dict[str, object]:
        """Rewriting is done by now."""
        return {**super().call_arguments(count), "enable_prompt_rewrite": False}


SETTINGS = {"num_inference_steps": 50, "guidance_scale": 4.0, **square(1024), "enable_prompt_rewrite": True}
MODEL = DiffusersSpec(
    slug="longcat-image",
    name="LongCat-Image",
    tier=1,
    pipeline="LongCatImagePipeline",
    model=LongCat,
    variants={"longcat-image": "meituan-longcat/LongCat-Image"},
    presets={"recommended": Preset(SETTINGS), "paper": Preset(SETTINGS, "as recommended; the rewriting is not kept")},
    packages=("torchvision",),
    memory_gib=30,
    licence="Apache-2.0",
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
