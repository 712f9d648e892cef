"""DynEval as a reward for reinforcement learning of text-to-image models.

    reward = Reward(Scorer.from_pretrained("vcl-iisc/DynEval-Evaluator", subfolder="DynEval-2B"))
    rewards = reward(images, prompts)                      # list of floats, 0-1

TRL's trainers with named columns take `reward` itself (prompts and images by keyword, further columns are ignored).
DDPO, flow-GRPO and their kin call `(images, prompts, metadata) -> (rewards, info)`: give them `reward.with_info`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dyneval.arrays import as_images
from dyneval.records import ScoreRecord, normalised_score
from dyneval.scorer.pairs import Failure, Pair, ScoringError, make_pair

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
        self, judge: Judge, score: ScoreName = "overall", *, soft: bool = True, failed: float | None = None
    ) -> None:
        """Describe the reward.

        Args:
            judge: scores the pairs.
            score: which of the three scores is the reward.
            soft: use the expectation of the scores, not the scores.
            failed: reward of a pair that cannot be scored, such as NaN where the trainer leaves those out; None raises.
        """
        self._judge = judge
        self._score = score
        self._soft = soft
        self._failed = failed

    def __call__(self, images: Any, prompts: Sequence[str], **columns: Any) -> list[float]:
        """Score images against the prompts they were made from.

        Args:
            images: tensor (N, 3, H, W), array (N, H, W, 3) or a sequence of images, see `dyneval.arrays.as_images`.
            prompts: as many, in the same order.
            columns: what else a trainer passes to all its rewards; ignored.

        Raises:
            ScoringError: a pair cannot be scored, and there is no reward for that.
            ValueError: the numbers of images and prompts differ, an image has another shape, or the judge works in a
                mode without that score.
        """
        return [self._reward(record) for record in score_each(self._judge, images, prompts, self._failed is None)]

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
        scores = record.soft if self._soft and record.soft else record.to_dict()
        if self._score not in scores:
            raise ValueError(
                f"the judge gives no {self._score} score, only {', '.join(record.normalised)}; see its mode"
            )
        return normalised_score(scores[self._score])


def score_each(judge: Judge, images: Any, prompts: Sequence[str], must: bool = True) -> list[ScoreRecord | None]:
    """Score images in any form; a pair that cannot be scored is None, or, where all `must`, a ScoringError."""
    pairs = (
        make_pair(image, prompt, n) for n, (image, prompt) in enumerate(zip(as_images(images), prompts, strict=True))
    )
    results = list(judge.score_pairs(pairs))
    failures = [result for result in results if not isinstance(result, ScoreRecord)]
    if must and failures:
        raise ScoringError(failures)
    return [result if isinstance(result, ScoreRecord) else None for result in results]
