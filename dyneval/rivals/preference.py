"""Reward models of human preference: ImageReward, HPSv2, HPSv3, each through its own package.

Their packages score one image after the other, and HPSv2's `score` reads its checkpoint of 4 GB in each call. Here each
model is loaded once and gets batches. The scores are those of the packages' own functions. This uses parts of the
packages that are not their public interface, so another release of one may need a change here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.errors import SettingError
from dyneval.rivals.registry import ComputedScore
from dyneval.rivals.tensors import device_of

if TYPE_CHECKING:
    from PIL import Image

# Tokens of a prompt that `ImageReward.score` of the package reads.
_IMAGE_REWARD_TOKENS = 35


class ImageReward:
    """ImageReward (Xu et al. 2023), a BLIP with a head; standardised by its authors to mean 0 and deviation 1."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load `model`, a name that the package knows or a checkpoint file."""
        import ImageReward as package

        self.device = device_of(device)
        self.model: Any = package.load(model, device=self.device)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images against one prompt each."""
        import torch

        tokenizer = self.model.blip.tokenizer
        text = tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=_IMAGE_REWARD_TOKENS, return_tensors="pt"
        ).to(self.device)
        pixels = torch.stack([self.model.preprocess(image) for image in images]).to(self.device)
        with torch.inference_mode():
            rewards = self.model.score_gard(text.input_ids, text.attention_mask, pixels)
        lengths = map(len, tokenizer(list(prompts)).input_ids)
        return [
            ComputedScore(reward, truncated=length > _IMAGE_REWARD_TOKENS)
            for reward, length in zip(rewards.reshape(-1).float().tolist(), lengths, strict=True)
        ]


class HpsV2:
    """Human Preference Score v2 (Wu et al. 2023): the cosine of image and prompt in a tuned ViT-H-14."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load the weights of `model`: v2.0, v2.1, or a checkpoint file.

        Raises:
            SettingError: it is none of these.
        """
        import torch
        from hpsv2 import img_score
        from hpsv2.utils import hps_version_map

        if model in hps_version_map:
            from huggingface_hub import hf_hub_download

            file = hf_hub_download("xswu/HPSv2", hps_version_map[model])
        elif Path(model).is_file():
            file = model
        else:
            raise SettingError(f"--model {model}: expected {', '.join(hps_version_map)} or a checkpoint file")
        self.device = device_of(device)
        # The package keeps device and model in globals of its module, and would choose a GPU by itself.
        img_score.device = self.device
        img_score.initialize_model()
        self.model: Any = img_score.model_dict["model"]
        self.model.load_state_dict(torch.load(file, map_location=self.device, weights_only=True)["state_dict"])
        self.model = self.model.to(self.device).eval()
        self.preprocess = img_score.model_dict["preprocess_val"]
        self.tokenizer = img_score.get_tokenizer("ViT-H-14")

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images against one prompt each."""
        import torch

        pixels = torch.stack([self.preprocess(image) for image in images]).to(self.device)
        text = self.tokenizer(list(prompts)).to(self.device)
        # Half precision on a GPU, as in the package; its autocast does nothing on a CPU.
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            found = self.model(pixels, text)
            near = (found["image_features"] * found["text_features"]).sum(dim=-1)
        return [ComputedScore(value) for value in near.float().tolist()]


class HpsV3:
    """HPSv3 (Ma et al. 2025), a Qwen2-VL with a head that gives mean and deviation of a score; the mean counts."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load the published weights, or the checkpoint file `model`."""
        from hpsv3 import HPSv3RewardInferencer

        weights = {"checkpoint_path": model} if model else {}
        self.inferencer: Any = HPSv3RewardInferencer(device=str(device_of(device)), **weights)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images against one prompt each."""
        import torch

        with torch.inference_mode():
            # By keyword: the order of the two differs between releases.
            rewards = self.inferencer.reward(image_paths=list(images), prompts=list(prompts))
        return [ComputedScore(value) for value in rewards[:, 0].float().tolist()]
