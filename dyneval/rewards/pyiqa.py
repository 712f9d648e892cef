"""DynEval in the shape of a pyiqa metric that reads captions, as its CLIP score does (docs/rewards/pyiqa.md).

    from dyneval.rewards.pyiqa import PyiqaMetric
    metric = PyiqaMetric("demo", score="iqa 1-5")        # or "dyneval-4b", or a server's address
    metric("cat.png", caption_list=["a cat on a bench"])        # tensor (1, 1); tensors (N, 3, H, W) of 0-1 as well

pyiqa 0.1.16 has no public place to add the configuration of a metric to, so this class is called directly and not by
`pyiqa.create_metric`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from dyneval.rewards.judges import AnyJudge
from dyneval.rewards.reward import Reward

if TYPE_CHECKING:
    import torch


class PyiqaMetric:
    """The part of a pyiqa metric without a reference image that its users call; higher is better.

    Attributes:
        metric_name: as pyiqa's tables show it.
        metric_mode: "NR": there is no reference image.
        lower_better: False.
        score_range: lowest and highest score, in pyiqa's form, "1, 5" or "0, 1".
    """

    metric_name = "dyneval"
    metric_mode = "NR"
    lower_better = False

    def __init__(self, judge: AnyJudge | None = None, score: str = "iqa 1-5", device: Any = None) -> None:
        """Get ready.

        Args:
            judge: see `dyneval.rewards.judges.find_judge`.
            score: see `dyneval.rewards.form.RewardForm.parse`.
            device: torch device of a student in this process.
        """
        self._reward = Reward(judge, score, device=device)
        self.score_range = "0, 1" if self._reward.form.normalised else "1, 5"

    def __call__(
        self, target: Any, ref: Any = None, *, caption_list: Sequence[str] | None = None, **options: Any
    ) -> torch.Tensor:
        """Score images.

        Args:
            target: tensor (N, 3, H, W) of 0-1 on any device, or one path or open image.
            ref: must be None: there is no reference image.
            caption_list: what the images were made from: DynEval asks each image its own questions, so it needs N.
            options: not used.

        Returns:
            Float32 (N, 1), on the device of a tensor, else on the CPU.

        Raises:
            ScoringError: an image cannot be used, such as one of -1 to 1, or a pair not be scored.
            ValueError: a reference, no captions, or another number of them.
        """
        import torch

        if ref is not None:
            raise ValueError("ref: DynEval compares with the prompt, not with a reference image")
        if caption_list is None:
            raise ValueError("caption_list: expected the prompt that each image was made from")
        # A list of paths is not among pyiqa's forms; `Reward` takes it, as it takes a tensor.
        images = [target] if isinstance(target, str | os.PathLike | Image.Image) else target
        rewards = self._reward(images, caption_list)
        # Metrics of pyiqa answer on the device of the image, whatever they compute on.
        device = target.device if isinstance(target, torch.Tensor) else "cpu"
        return torch.tensor(rewards, dtype=torch.float32, device=device).reshape(-1, 1)
