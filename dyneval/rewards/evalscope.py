"""DynEval as a text-to-image metric of evalscope (docs/rewards/evalscope.md); import it before `run_task`.

import dyneval.rewards.evalscope
run_task({"datasets": ["general_t2i"], "dataset_args": {"general_t2i": {"metric_list": ["DynEval"]}}, ...})
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dyneval.rewards.reward import Reward

try:
    from evalscope.api.metric import T2IMetric as _T2IMetric
    from evalscope.api.registry import register_metric
except ModuleNotFoundError:

    class _T2IMetric:  # type: ignore[no-redef]
        """What is used here of evalscope's base class."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._init_once(*args, **options)

        def _init_once(self, *args: Any, **options: Any) -> None:
            """Begin."""

        def __call__(self, image: str, text: str, **options: Any) -> Any:
            """Score one image."""
            return self.apply([image], [text], **options)[0]

        def apply(self, images: list[str], texts: list[str], **options: Any) -> list[Any]:
            """Score images."""
            raise NotImplementedError

    def register_metric(name: str) -> Any:
        """Leave the class as it is."""
        return lambda kind: kind


@register_metric(name="DynEval")
class EvalscopeMetric(_T2IMetric):
    """The scores as dimensions of one metric, and as `overall` the reward."""

    def _init_once(
        self,
        model: str | None = None,
        device: Any = None,
        cache_dir: Any = None,
        score: str | None = None,
        **options: Any,
    ) -> None:
        """Begin, once a process.

        Args:
            model: the judge, see `dyneval.rewards.judges.find_judge`.
            device: torch device of a student in this process.
            cache_dir: not used.
            score: see `dyneval.rewards.form.RewardForm.parse`.
            options: not used.
        """
        self._reward = Reward(model, score, device=device)

    def apply(self, images: Sequence[str], texts: Sequence[str], **options: Any) -> list[list[dict[str, float]]]:
        """Score image files: for each one a list of one, as evalscope reads it.

        Raises:
            ScoringError: a pair cannot be scored; evalscope logs it and writes 0.
        """
        found = []
        for record in self._reward.records(list(images), list(texts)):
            assert record is not None, "a reward without `failed` raises"
            form = self._reward.form
            found.append([form.all_of(record) | {"overall": form.of(record)}])
        return found
