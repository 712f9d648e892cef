"""Adapter of OmniGen2: https://github.com/VectorSpaceLab/OmniGen2, in its own environment.

It loads and calls the authors' pipeline as their inference.py does, at commit 0f72fa9.
"""

from typing import Any

import torch
from PIL import Image


class Adapter:
    """The authors' pipeline, a diffusers pipeline in all but its name."""

    def __init__(self, job: Any) -> None:
        from omnigen2.models.transformers.transformer_omnigen2 import OmniGen2Transformer2DModel
        from omnigen2.pipelines.omnigen2.pipeline_omnigen2 import OmniGen2Pipeline

        folder, half = job.weights(job.repo), {"torch_dtype": torch.bfloat16}
        self.pipeline = OmniGen2Pipeline.from_pretrained(folder, trust_remote_code=True, **half)
        # Loaded apart, as in inference.py.
        self.pipeline.transformer = OmniGen2Transformer2DModel.from_pretrained(folder, subfolder="transformer", **half)
        self.pipeline.to(job.device)
        self.arguments = job.arguments

    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image."""
        # On the CPU, so that the same noise comes out whatever the device.
        generator = torch.Generator("cpu").manual_seed(seed)
        return self.pipeline(prompt=prompt, generator=generator, output_type="pil", **self.arguments).images[0]
