"""DynEval as a metric over many images: update, compute, reset.

    from dyneval import Metric
    metric = Metric("demo")        # or "dyneval-4b", a server's address, a Scorer, a Client
    metric.update(["cat.png"], ["a cat on a bench"])
    metric.compute()        # {"t2ia": 4.1, "iqa": 3.6, "overall": 3.85, "normalised": 0.7125, "pairs": 1, "failed": 0}

Where torchmetrics is installed `Metric` is one of its metrics: it goes into a MetricCollection, and adds up over
processes. Without torchmetrics, and without torch, it counts in this process alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dyneval.records import SCORE_NAMES, normalised_score
from dyneval.rewards.form import chosen_scores
from dyneval.rewards.judges import AnyJudge, find_judge
from dyneval.rewards.reward import score_batch


class _PlainMetric:
    """The part of torchmetrics' interface that is used here, for one process and without torch."""

    def __init__(self) -> None:
        self._defaults: dict[str, Any] = {}

    def add_state(self, name: str, default: Any, dist_reduce_fx: str) -> None:
        """Keep a number that `reset` sets back; nothing is added up over processes, whatever `dist_reduce_fx` says."""
        self._defaults[name] = default
        setattr(self, name, default)

    def reset(self) -> None:
        """Forget all pairs."""
        for name, default in self._defaults.items():
            setattr(self, name, default)


try:
    from torchmetrics import Metric as _Base
except ModuleNotFoundError:
    _Base = _PlainMetric


class Metric(_Base):
    """Mean scores of images against their prompts: 1-5 each, higher is better.

    Attributes:
        pairs: pairs in the means.
        failed: pairs that could not be scored, and were left out.
    """

    # What torchmetrics asks of its metrics. False for the last one: `forward` need not score each batch twice.
    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    pairs: Any
    failed: Any

    def __init__(
        self,
        judge: AnyJudge | None = None,
        *,
        soft: bool = False,
        strict: bool = True,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Begin without pairs.

        Args:
            judge: a scorer, a client, a server's address or a student's name, see
                `dyneval.rewards.judges.find_judge`.
            soft: use the expectation of each score, which is finer, instead of the score.
            strict: a pair that cannot be scored is an error; otherwise it is left out of the means and counted.
            value_range: what the values of arrays and tensors run between, such as (-1, 1); default: what their type
                implies, see `dyneval.files.image_forms.read_image`.
        """
        super().__init__()
        self._judge = find_judge(judge)
        self._soft = soft
        self._strict = strict
        self._value_range = value_range
        # Sums and counts, and not means: those of several processes add up.
        for name in (*(f"sum_{one}" for one in SCORE_NAMES), "pairs", "failed"):
            zero: Any = 0.0
            if _Base is not _PlainMetric:
                import torch

                # A new one for each state: torchmetrics keeps the tensor itself, and `+=` would count in all of them.
                # float64, since float32 counts no further than 16.8 million.
                zero = torch.zeros((), dtype=torch.float64)
            self.add_state(name, zero, dist_reduce_fx="sum")

    def update(self, images: Any, prompts: Sequence[str]) -> None:
        """Score images against the prompts they were made from, and add them.

        Args:
            images: tensor (N, 3, H, W), array (N, H, W, 3) or a list of images in any form, see
                `dyneval.files.image_forms.read_image`.
            prompts: as many, in the same order.

        Raises:
            ScoringError: an image cannot be used or a pair not be scored, and the metric is strict.
            ValueError: images or prompts are no list, or their numbers differ.
        """
        for record in score_batch(self._judge, images, prompts, self._value_range, must=self._strict):
            if record is None:
                self.failed += 1
                continue
            scores = chosen_scores(record, self._soft)
            for name in SCORE_NAMES:
                setattr(self, f"sum_{name}", getattr(self, f"sum_{name}") + scores.get(name, math.nan))
            self.pairs += 1

    def compute(self) -> dict[str, float]:
        """Return the means so far.

        Returns:
            `t2ia`, `iqa`, `overall` (1-5), `normalised` (overall in 0-1), `pairs` and `failed`. A judge that works in a
            mode with one part only leaves the other one, and what is made of both, NaN.

        Raises:
            ValueError: no pair has been scored.
        """
        count = int(self.pairs)
        if not count:
            raise ValueError("no pair has been scored yet; call update first")
        means = {name: float(getattr(self, f"sum_{name}")) / count for name in SCORE_NAMES}
        return means | {
            "normalised": normalised_score(means["overall"]),
            "pairs": count,
            "failed": int(self.failed),
        }
