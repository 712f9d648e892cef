"""The reward itself, on which all trainers' forms of it stand.

It scores images, makes numbers of the score records and says what happens to a pair that cannot be scored: that is an
error, unless the caller names a number for it. There is no default, since a made-up reward would train a model.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dyneval.files.image_forms import in_list
from dyneval.loaded_pairs import Failure, score_all, score_each
from dyneval.records import PARTS, Part, ScoreRecord
from dyneval.rewards.form import RewardForm
from dyneval.rewards.judges import AnyJudge, ScoresPairs, find_judge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class QuestionReward(NamedTuple):
    """The reward of one question about one image, on the scale of the reward's words."""

    part: Part
    question: str
    reward: float


class Reward:
    """`reward(images, prompts) -> list[float]`, higher is better; by default 0-1, from the soft overall score.

    Any number of threads may call it; each gets what it would get alone, up to rounding.
    """

    __name__ = "dyneval"
    """Trainers take the name of a reward's column in their logs from here, as of a function."""

    def __init__(
        self,
        judge: AnyJudge | None = None,
        score: str | None = None,
        *,
        device: Any = None,
        failed: float | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        """Describe the reward; a student that is only named is loaded here.

        Args:
            judge: a scorer, a client, a server's address or a student's name, see `dyneval.rewards.judges.find_judge`.
            score: words that say which score is the reward, see `dyneval.rewards.form.RewardForm.parse`.
            device: torch device of a student in this process.
            failed: reward of a pair that cannot be scored, such as NaN where the trainer leaves those out; None raises.
            value_range: what the values of arrays and tensors run between, such as (-1, 1); default: what their type
                implies, see `dyneval.files.image_forms.read_image`.

        Raises:
            SettingError: the words say no reward.
            UserError: the judge cannot be loaded, or its address is wrong.
        """
        self.form = RewardForm.parse(score)
        self._judge = find_judge(judge, device)
        self._failed = failed
        self._value_range = value_range

    def __call__(self, images: Any, prompts: Sequence[str], **columns: Any) -> list[float]:
        """Score images against the prompts they were made from.

        Args:
            images: tensor (N, 3, H, W), array (N, H, W, 3) or a list of N images in any form, see
                `dyneval.files.image_forms.read_image`.
            prompts: N texts, in the same order.
            columns: what else a trainer passes to all its rewards; ignored.

        Returns:
            N rewards, in the same order, on the scale of the reward's words.

        Raises:
            ScoringError: an image cannot be used or a pair not be scored, and there is no reward for that.
            ValueError: images or prompts are no list, their numbers differ, or the judge works in a mode without that
                score.
        """
        return [self._of(self.form, record) for record in self.records(images, prompts)]

    def with_info(
        self, images: Any, prompts: Sequence[str], metadata: Any = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Score as trainers in the manner of DDPO call it: rewards float32 (N,), and no further figures.

        Arguments and errors are those of a call; `metadata` is ignored.
        """
        import numpy as np

        return np.array(self(images, prompts), np.float32), {}

    def by_name(self, images: Any, prompts: Sequence[str], forms: Sequence[RewardForm]) -> list[NDArray[np.float32]]:
        """Make several rewards from one scoring.

        Args:
            images: as of a call.
            prompts: as of a call.
            forms: the rewards.

        Returns:
            For each of `forms` an array float32 (N,).

        Raises:
            ScoringError: as of a call.
            ValueError: as of a call.
        """
        import numpy as np

        records = self.records(images, prompts)
        return [np.array([self._of(form, record) for record in records], np.float32) for form in forms]

    def of_questions(self, images: Any, prompts: Sequence[str]) -> list[list[QuestionReward]]:
        """Return the reward of every question: for each image its T2IA questions, then its IQA questions.

        Images of one prompt have the same T2IA questions in the same order. Only the words "soft", "whole",
        "normalised" and "1-5" matter here. A pair that could not be scored has no questions, where `failed` was said.

        Raises:
            ScoringError: as of a call.
            ValueError: as of a call, or the judge gives a question no soft score.
        """
        records = self.records(images, prompts)
        return [[] if record is None else self._questions(record) for record in records]

    def in_group(
        self, images: Any, prompts: Sequence[str], groups: Sequence[Hashable] | None = None
    ) -> NDArray[np.float32]:
        """Return the share of its group that each image beats, 0-1: float32 (N,).

        It is 0.5 on average over a group, and 0.5 for an image alone.

        Whole scores decide, and where they tie soft scores; images that tie in both beat each other half. It depends on
        order alone, so no prompt counts more because its scores lie further apart.

        Args:
            images: as of a call.
            prompts: as of a call.
            groups: what each image is compared within; default: its prompt.

        Raises:
            ScoringError: an image cannot be used or a pair not be scored, whatever `failed` says: it has no place in an
                order.
            ValueError: as of a call, or another number of groups.
        """
        import numpy as np

        prompts = in_list(prompts, "prompts")
        keys = prompts if groups is None else in_list(groups, "groups")
        records = score_batch(self._judge, images, prompts, self._value_range, must=True)
        if len(keys) != len(records):
            raise ValueError(f"groups: {len(keys)}, prompts: {len(records)}; expected as many of both")
        # Not of the words "soft" and "whole": an order needs both, the second one where the first ties.
        whole = RewardForm(self.form.weights, soft=False)
        soft = RewardForm(self.form.weights)
        # Rounded: sums in another order differ in their last digits, which would decide where two images are equal.
        ranks = [(round(whole.of(one), 6), round(soft.of(one), 6)) for one in records if one is not None]
        members: dict[Hashable, list[int]] = {}
        for number, key in enumerate(keys):
            members.setdefault(key, []).append(number)
        shares = np.full(len(ranks), 0.5, np.float32)
        for group in members.values():
            for one in group if len(group) > 1 else ():
                # An image ties with itself, which the sum counts as half a win.
                beaten = sum((ranks[one] > ranks[other]) + (ranks[one] == ranks[other]) / 2 for other in group) - 0.5
                shares[one] = beaten / (len(group) - 1)
        return shares

    def records(self, images: Any, prompts: Sequence[str]) -> list[ScoreRecord | None]:
        """Return the whole records behind the rewards; arguments and errors are those of a call.

        A pair that could not be scored is None where `failed` was said, and an error otherwise.
        """
        return score_batch(self._judge, images, prompts, self._value_range, must=self._failed is None)

    def _of(self, form: RewardForm, record: ScoreRecord | None) -> float:
        """Return the reward of a record, or of a pair that could not be scored."""
        if record is None:
            assert self._failed is not None
            return self._failed
        return form.of(record)

    def _questions(self, record: ScoreRecord) -> list[QuestionReward]:
        """Return the rewards of a record's questions."""
        rewards = []
        for part in PARTS:
            for one in (record.t2ia_questions if part == "t2ia" else record.iqa_questions) or ():
                score = one.soft_score if self.form.soft else one.score
                # A whole score in its place would put two kinds of numbers into one reward.
                if score is None:
                    raise ValueError(f"{record.pair_id}: a question has no soft score; take the whole ones")
                rewards.append(QuestionReward(part, one.question, self.form.on_scale(score)))
        return rewards


def score_batch(
    judge: ScoresPairs, images: Any, prompts: Any, value_range: tuple[float, float] | None, *, must: bool
) -> list[ScoreRecord | None]:
    """Score images in any form.

    Args:
        judge: scores.
        images: see `Reward.__call__`.
        prompts: as many.
        value_range: what the values of arrays and tensors run between; None: what their type implies.
        must: whether a pair that cannot be scored is an error. Otherwise it is None, and the log says why.

    Raises:
        ScoringError: a pair cannot be scored, and all must.
        ValueError: images or prompts are no list, or their numbers differ.
    """
    if must:
        return [*score_all(judge.score_pairs, images, prompts, value_range)]
    # The first three reasons are enough for a log that gets such a line with every batch.
    results = score_each(judge.score_pairs, images, prompts, value_range)
    failures = [result for result in results if isinstance(result, Failure)]
    if failures:
        shown = "; ".join(f"{failure.pair_id}: {failure.reason}" for failure in failures[:3])
        logger.warning("%d of %d pairs could not be scored: %s", len(failures), len(results), shown)
    return [result if isinstance(result, ScoreRecord) else None for result in results]
