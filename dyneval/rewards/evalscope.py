"""DynEval as a text-to-image metric of evalscope (docs/rewards/evalscope.md); import it before `run_task`.

    import dyneval.rewards.evalscope

After that `run_task` knows the name "DynEval" in a `metric_list`. evalscope prescribes the name and the signatures of
`_init_once` and `apply`, and what `apply` returns; it hides errors, and counts an image that failed as 0. Without
evalscope the module can be imported and used by itself, which is how it is tested.
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

        _init_once: Any
        """Begins, once a process."""
        apply: Any
        """Scores images."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self._init_once(*args, **options)

        def __call__(self, image: str, text: str, **options: Any) -> Any:
            """Score one image."""
            return self.apply([image], [text], **options)[0]

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
        """Score image files.

        Args:
            images: N paths.
            texts: the N prompts that they were made from.
            options: not used.

        Returns:
            For each image a list of one dict, since evalscope's adapter takes `metric(image, text)[0]`. The dict has
            all scores that there are, and the reward as `overall`, which evalscope shows without a dimension.

        Raises:
            ScoringError: a pair cannot be scored; evalscope logs it and writes 0.
        """
        form = self._reward.form
        found = []
        for record in self._reward.records(list(images), list(texts)):
            assert record is not None, "a reward without `failed` raises"
            found.append([form.all_of(record) | {"overall": form.of(record)}])
        return found
