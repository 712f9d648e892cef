"""Image quality without a reference image, from torchmetrics (CLIP-IQA) and pyiqa (any of its metrics).

No prompt is read. The images of a batch may differ in size, so each size is one tensor; resizing them to one size would
change what is rated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dyneval.errors import SettingError, did_you_mean
from dyneval.rivals.registry import ComputedScore
from dyneval.rivals.tensors import by_size, device_of

if TYPE_CHECKING:
    from PIL import Image

# pyiqa lists these as metrics without a reference, although they rate sets of images or need the prompt.
_OF_SETS = ("fid", "inception_score", "clipscore")


class ClipIqa:
    """CLIP-IQA of torchmetrics: how much nearer an image lies to "Good photo." than to "Bad photo."."""

    def __init__(self, model: str, device: str | None) -> None:
        """Load `model`, one of those that torchmetrics knows; None as `device` takes a GPU where there is one."""
        from torchmetrics.multimodal import CLIPImageQualityAssessment

        self.device = device_of(device)
        metric = CLIPImageQualityAssessment(model_name_or_path=model, data_range=1.0, prompts=("quality",))
        self.metric: Any = metric.to(self.device)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[ComputedScore]:
        """Score images."""
        values = [math.nan] * len(images)
        for places, pixels in by_size(images, self.device):
            # A metric of torchmetrics gathers all images that it was given since it was reset.
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
        """Load the metric called `model`.

        Raises:
            SettingError: pyiqa has no metric of this name that rates a single image without a reference.
        """
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
        # In a score table higher is better; `raw` keeps what pyiqa gave.
        if self.metric.lower_better:
            return [ComputedScore(-value, raw=value) for value in values]
        return [ComputedScore(value) for value in values]
