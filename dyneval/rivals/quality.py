"""Image quality without a reference, from torchmetrics (CLIP-IQA) and pyiqa (any of its metrics). No prompt is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dyneval.errors import SettingError, did_you_mean
from dyneval.rivals.registry import ComputedScore
from dyneval.rivals.tensors import by_size, device_of

if TYPE_CHECKING:
    from PIL import Image

_OF_SETS = ("fid", "inception_score", "clipscore")
"""What pyiqa lists as metrics without a reference although they rate sets of images, or need the prompt."""


class ClipIqa:
    """CLIP-IQA of torchmetrics: how much nearer an image lies to "Good photo." than to "Bad photo."."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load `model`, one of those that torchmetrics knows."""
        from torchmetrics.multimodal import CLIPImageQualityAssessment

        self.device = device_of(device)
        metric = CLIPImageQualityAssessment(model_name_or_path=model, data_range=1.0, prompts=("quality",))
        self.metric: Any = metric.to(self.device)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images."""
        values = [math.nan] * len(images)
        for places, pixels in by_size(images, self.device):
            self.metric.reset()
            self.metric.update(pixels)
            # Of a single image torchmetrics gives a number, of several a vector.
            for place, value in zip(places, self.metric.compute().reshape(-1).tolist(), strict=True):
                values[place] = value
        self.metric.reset()
        return [ComputedScore(value) for value in values]


class Pyiqa:
    """A metric of pyiqa that needs no reference image."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load the metric called `model`. Raises SettingError: pyiqa has no such one of this kind."""
        import pyiqa

        known = [name for name in pyiqa.list_models(metric_mode="NR") if not name.startswith(_OF_SETS)]
        if model not in known:
            raise SettingError(
                f"--model {model}: no metric of pyiqa that rates single images without a reference; "
                f"{did_you_mean(model, known)}"
            )
        self.device = device_of(device)
        self.metric: Any = pyiqa.create_metric(model, device=self.device)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images."""
        values = [math.nan] * len(images)
        for places, pixels in by_size(images, self.device):
            for place, value in zip(places, self.metric(pixels).reshape(-1).tolist(), strict=True):
                values[place] = value
        if self.metric.lower_better:
            return [ComputedScore(-value, raw=value) for value in values]
        return [ComputedScore(value) for value in values]
