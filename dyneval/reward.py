"""DynEval as a reward for reinforcement learning of text-to-image models.

    reward = Reward(Scorer.from_pretrained())
    rewards = reward(images, prompts)                      # list of floats, 0-1

TRL's trainers with named columns take `reward` itself (prompts and images by keyword, further columns are ignored).
DDPO, flow-GRPO and their kin call `(images, prompts, metadata) -> (rewards, info)`: give them `reward.with_info`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dyneval.loaded_pairs import Failure, Pair, score_all, score_each
from dyneval.records import ScoreRecord, normalised_score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

ScoreName = Literal["overall", "t2ia", "iqa"]


class Judge(Protocol):
    """A `dyneval.Scorer` or a `dyneval.Client`."""

    def score_pairs(self, pairs: Iterable[Pair]) -> Iterator[ScoreRecord | Failure]:
        """One result a pair, in order."""


class Reward:
    """`reward(images, prompts) -> list[float]`, each 0-1, higher is better.

    The soft scores are used, made from the expectation of each score: whole scores have few levels, and images of one
    group that tie give no advantage to learn from.
    """

    __name__ = "dyneval"
    """Trainers name a reward function's column in their logs after this."""

    def __init__(
        self,
        judge: Judge,
        score: ScoreName = "overall",
        *,
        soft: bool = True,
        failed: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Describe the reward.

        Args:
            judge: scores the pairs.
            score: which of the three scores is the reward.
            soft: use the expectation of the scores, not the scores.
            failed: reward of a pair that cannot be scored, such as NaN where the trainer leaves those out; None raises.
            value_range: what the values of arrays and tensors run between, such as (-1, 1); default: what their type
                implies, see `dyneval.files.image_forms.read_image`.
        """
        self._judge = judge
        self._score = score
        self._soft = soft
        self._failed = failed
        self._value_range = value_range

    def __call__(self, images: Any, prompts: Sequence[str], **columns: Any) -> list[float]:
        """Score images against the prompts they were made from.

        Args:
            images: tensor (N, 3, H, W), array (N, H, W, 3) or a list of images in any form, see
                `dyneval.files.image_forms.read_image`.
            prompts: as many, in the same order.
            columns: what else a trainer passes to all its rewards; ignored.

        Raises:
            ScoringError: an image cannot be used or a pair not be scored, and there is no reward for that.
            ValueError: images or prompts are no list, their numbers differ, or the judge works in a mode without that
                score.
        """
        records = score_batch(self._judge, images, prompts, self._value_range, must=self._failed is None)
        return [self._reward(record) for record in records]

    def with_info(
        self, images: Any, prompts: Sequence[str], metadata: Any = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """The same as trainers in the manner of DDPO call it: rewards (N,) as an array, and no further figures."""
        import numpy as np

        return np.array(self(images, prompts)), {}

    def _reward(self, record: ScoreRecord | None) -> float:
        if record is None:
            assert self._failed is not None
            return self._failed
        scores = chosen_scores(record, self._soft)
        if self._score not in scores:
            raise ValueError(f"the judge gives no {self._score} score, only {', '.join(scores)}; see its mode")
        return normalised_score(scores[self._score])


def chosen_scores(record: ScoreRecord, soft: bool) -> dict[ScoreName, float]:
    """The scores of a record, or its soft scores. Raises ValueError where it has no soft ones: they do not mix."""
    if not soft:
        return record.scores
    if not record.soft:
        raise ValueError(f"{record.pair_id}: the judge gives no soft scores; take the others with soft=False")
    return record.soft


def score_batch(
    judge: Judge, images: Any, prompts: Any, value_range: tuple[float, float] | None, *, must: bool
) -> list[ScoreRecord | None]:
    """Score images in any form; where not all `must`, a pair that cannot be scored is None, and the log says why."""
    if must:
        return [*score_all(judge.score_pairs, images, prompts, value_range)]
    results = score_each(judge.score_pairs, images, prompts, value_range)
    failures = [result for result in results if isinstance(result, Failure)]
    if failures:
        shown = "; ".join(f"{failure.pair_id}: {failure.reason}" for failure in failures[:3])
        logger.warning("%d of %d pairs could not be scored: %s", len(failures), len(results), shown)
    return [result if isinstance(result, ScoreRecord) else None for result in results]
