"""CLIPScore and PickScore: how similar the embeddings of image and prompt are in a CLIP model.

Both are computed with transformers itself, in batches. torchmetrics has CLIPScore too, but only as a mean over images.
Its release 1.9.0 does not run with transformers 5. It also cuts the end-of-text token off a prompt that is longer than
the 77 tokens that CLIP reads, and CLIP takes the embedding of a text from that token. Here the text is cut before it.
Up to 77 tokens the scores are those of torchmetrics, which a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dyneval.rivals.registry import ComputedScore
from dyneval.rivals.tensors import device_of

if TYPE_CHECKING:
    import torch
    from PIL import Image


class Clip:
    """A CLIP model and its processor."""

    def __init__(
        self, model: str, device: str | None, processors: Mapping[str, str] | None = None, is_scaled: bool = False
    ) -> None:
        """Load a model of the Hub or a folder.

        Args:
            model: name or folder.
            device: torch device; None takes a GPU where there is one.
            processors: by the name of a model where its processor is, if not with the model.
            is_scaled: the model's own scale, exp(logit_scale), and no floor (PickScore); else 100 and no less than 0.
        """
        from transformers import AutoModel, AutoProcessor

        self.device = device_of(device)
        self.processor: Any = AutoProcessor.from_pretrained((processors or {}).get(model, model))
        self.model: Any = AutoModel.from_pretrained(model).eval().to(self.device)
        self.longest = int(self.model.config.text_config.max_position_embeddings)
        self.is_scaled = is_scaled

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images, upright RGB, against one prompt each; `truncated` says that a prompt was cut."""
        import torch

        pixels = self.processor(images=list(images), return_tensors="pt").to(self.device)
        text = self.processor(
            text=list(prompts), padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            of_image = _unit(self.model.get_image_features(pixel_values=pixels["pixel_values"]))
            of_text = _unit(
                self.model.get_text_features(input_ids=text["input_ids"], attention_mask=text["attention_mask"])
            )
            cosine = (of_image * of_text).sum(dim=-1).float()
            # Hessel et al. 2021 clip at 0; PickScore is published as the logit of its model.
            scores = self.model.logit_scale.exp().float() * cosine if self.is_scaled else (100 * cosine).clamp(min=0)
        # Without `truncation`, which hides how long a prompt was.
        lengths = map(len, self.processor.tokenizer(list(prompts)).input_ids)
        return [
            ComputedScore(score, truncated=length > self.longest)
            for score, length in zip(scores.tolist(), lengths, strict=True)
        ]


def _unit(features: Any) -> torch.Tensor:
    """Features of length 1; transformers 5 wraps what transformers 4 gave as a tensor."""
    pooled: torch.Tensor = getattr(features, "pooler_output", features)
    return pooled / pooled.norm(dim=-1, keepdim=True)
