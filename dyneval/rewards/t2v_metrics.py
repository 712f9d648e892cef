"""DynEval in the shape of t2v_metrics' scores: images by texts (docs/rewards/t2v_metrics.md).

    from dyneval.rewards.t2v_metrics import Score
    score = Score(model="demo")        # or "dyneval-4b", and device="cuda"
    score(images=["cat.png", "cat.png"], texts=["a cat on a bench", "two dogs"])        # tensor (2, 2)

Code that calls VQAScore can call this in its place: arguments, shapes and defaults are those of t2v_metrics' `Score`.
Every image is scored against every text, so M images and N texts cost M * N scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dyneval.checkpoints.names import NAMES
from dyneval.files.image_forms import in_list
from dyneval.rewards.reward import Reward

if TYPE_CHECKING:
    import torch


class Score:
    """The part of t2v_metrics' `Score` that its users call."""

    def __init__(
        self, model: str | None = None, device: Any = "cpu", cache_dir: Any = None, score: str | None = None
    ) -> None:
        """Get ready.

        Args:
            model: the judge, see `dyneval.rewards.judges.find_judge`.
            device: torch device of a student in this process, and of the answers.
            cache_dir: not used.
            score: see `dyneval.rewards.form.RewardForm.parse`.
        """
        self.device = device
        self._reward = Reward(model, score, device=device)

    def list_all_models(self) -> list[str]:
        """Return the names of the published students; a folder, a Hub repository or a server's address will do, too."""
        return list(NAMES)

    def forward(self, images: Any, texts: str | Sequence[str], **options: Any) -> torch.Tensor:
        """Score every image against every text.

        Args:
            images: a path or a list of M; other forms of images in a list.
            texts: a text or a list of N.
            options: not used.

        Returns:
            Rewards float32 (M, N) on the device, 0-1 unless `score` says otherwise.

        Raises:
            ScoringError: a pair cannot be scored.
        """
        import torch

        # A text is a path here, and not a list of letters.
        pictures = [images] if isinstance(images, str) else in_list(images, "images")
        lines = [texts] if isinstance(texts, str) else in_list(texts, "texts")
        each = [(image, text) for image in pictures for text in lines]
        rewards = self._reward([image for image, _ in each], [text for _, text in each])
        return torch.tensor(rewards, dtype=torch.float32, device=self.device).reshape(len(pictures), len(lines))

    __call__ = forward

    def batch_forward(self, dataset: Sequence[Mapping[str, Any]], batch_size: int = 16, **options: Any) -> torch.Tensor:
        """Score many samples.

        Args:
            dataset: samples {"images": M paths, "texts": N texts}, with the same M and N in all of them.
            batch_size: samples at a time.
            options: not used.

        Returns:
            Rewards float32 (samples, M, N) on the device.

        Raises:
            ScoringError: a pair cannot be scored.
            ValueError: the samples have not all as many images and texts.
        """
        import torch

        # Checked first: found after the scoring, other sizes would cost all of it.
        sizes = {(len(sample["images"]), len(sample["texts"])) for sample in dataset}
        if len(sizes) > 1:
            raise ValueError(f"dataset: samples of {sorted(sizes)} images and texts; expected as many in each")
        found = []
        for start in range(0, len(dataset), batch_size):
            pairs = [
                (image, text)
                for sample in dataset[start : start + batch_size]
                for image in sample["images"]
                for text in sample["texts"]
            ]
            found += self._reward([image for image, _ in pairs], [text for _, text in pairs])
        # Without any sample there is no size; the tensor is empty then.
        ((images, texts),) = sizes or {(0, 0)}
        return torch.tensor(found, dtype=torch.float32, device=self.device).reshape(len(dataset), images, texts)
