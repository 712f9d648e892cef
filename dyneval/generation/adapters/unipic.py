"""Adapter of UniPic 1.5B: https://github.com/SkyworkAI/UniPic, folder UniPic-1, in its own environment.

The configuration reads kl16.ckpt, Qwen2.5-1.5B-Instruct and siglip2-so400m-patch16-512 from code/UniPic-1/checkpoint,
where the authors have the repo of the weights downloaded to: it is linked there. The code was read at commit 9e2a609.
"""

import os
import sys
from typing import Any

import torch
from PIL import Image


class Adapter:
    """Masked autoregression: all tokens of the image at once, in a few dozen rounds."""

    def __init__(self, job: Any) -> None:
        # The weights first: a relative folder would be another one after the change of folder below.
        root, folder = (job.code / "UniPic-1").resolve(), job.weights(job.repo)
        if not (root / "checkpoint").exists():
            (root / "checkpoint").symlink_to(folder)
        # The configuration names its files from here, and its modules too.
        sys.path.insert(0, str(root))
        os.chdir(root)
        from mmengine.config import Config
        from src.builder import BUILDER

        config = Config.fromfile("configs/models/qwen2_5_1_5b_kl16_mar_h.py")
        model = BUILDER.build(config.model).eval().to(job.device)
        state = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
        model.load_state_dict(state, strict=False)  # the parts named above are loaded by the configuration
        self.model = model.to(model.dtype)
        self.arguments = dict(job.arguments)
        self.side = self.arguments.pop("image_size") // 16

    def wording(self, prompt: str) -> str:
        """Return the prompt as the authors word it."""
        return f"Generate an image: {prompt}"

    @torch.no_grad()
    def draw(self, prompt: str, seed: int) -> Image.Image:
        """Draw one image; the second text is the prompt of the branch that guidance moves away from."""
        condition = self.model.prepare_text_conditions(prompt, "Generate an image.")
        sample = self.model.sample(
            input_ids=condition["input_ids"],
            attention_mask=condition["attention_mask"],
            image_shape=(self.side, self.side),
            progress=False,
            **self.arguments,
        )
        pixels = torch.clamp(127.5 * sample[0].float() + 128.0, 0, 255).to("cpu", torch.uint8)
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())
