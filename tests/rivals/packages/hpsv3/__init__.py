"""Stands in for hpsv3 1.0.0; the order of the arguments of `reward` is that of its repository, not of its release."""

import torch
from PIL import Image


class HPSv3RewardInferencer:
    def __init__(self, config_path=None, checkpoint_path=None, device="cuda", differentiable=False):
        assert (config_path, checkpoint_path, device) == (None, None, "cpu")

    def reward(self, prompts, image_paths):
        assert all(isinstance(image, Image.Image) for image in image_paths)
        assert all(isinstance(prompt, str) for prompt in prompts)
        means = [
            image.getpixel((0, 0))[0] / 255 + len(prompt) for image, prompt in zip(image_paths, prompts, strict=True)
        ]
        return torch.tensor([[mean, 99.0] for mean in means], dtype=torch.bfloat16)
