"""Qwen-Image (tier 2): strong at text in images; its authors append a few words of praise to every prompt.

Run: python image_gen_scripts/qwen_image.py --prompts prompts.parquet --output gendb/ --limit 100
"""

import re

from dyneval.generation.cli import run_script
from dyneval.generation.families.diffusers import DiffusersModel, DiffusersSpec
from dyneval.generation.model import Preset, Request, square


class QwenImage(DiffusersModel):
    """Appends the suffix in the prompt's own language."""

    def wording(self, request: Request) -> str:
        """The prompt with its suffix, the Chinese one after Chinese text."""
        chinese = re.search("[\u4e00-\u9fff]", request.prompt)
        return f"{request.prompt}, 超清，4K，电影级构图." if chinese else super().wording(request)


SETTINGS = {"num_inference_steps": 50, "true_cfg_scale": 4.0, "negative_prompt": " ", **square(1328)}
SUFFIX = ", Ultra HD, 4K, cinematic composition."
NOTE = "as recommended; the published records keep the prompt without its suffix"
MODEL = DiffusersSpec(
    slug="qwen-image",
    name="Qwen-Image",
    tier=2,
    pipeline="QwenImagePipeline",
    model=QwenImage,
    variants={"qwen-image": "Qwen/Qwen-Image", "2512": "Qwen/Qwen-Image-2512"},
    presets={name: Preset(SETTINGS, NOTE, prompt_suffix=SUFFIX) for name in ("recommended", "paper")},
    memory_gib=60,
    licence="Apache-2.0",
    batch_size=2,
)

if __name__ == "__main__":
    raise SystemExit(run_script(MODEL, __file__))
