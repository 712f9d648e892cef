"""Which number of a score record is the reward, said in words: "t2ia", "t2ia=0.7 iqa=0.3 whole", "overall 1-5".

Words and not arguments, since most trainers pass a reward nothing but one text from their settings file. A word that is
not understood is an error: a reward that was guessed would train a model for days on the wrong number.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from dyneval.errors import SettingError, nearest
from dyneval.records import SCORE_NAMES, ScoreName, ScoreRecord, normalised_score

SCORE = "DYNEVAL_REWARD"
"""Environment variable with the words of a reward, where no argument has them."""
# Each word names a setting of RewardForm and its value; two words of one table exclude each other.
_KINDS = {"soft": True, "whole": False}
_SCALES = {"normalised": True, "1-5": False}


@dataclass(frozen=True, slots=True)
class RewardForm:
    """A reward as a weighted mean of scores, higher is better.

    Attributes:
        weights: by name of a score, "overall", "t2ia" or "iqa"; at least one is above 0.
        soft: whether soft scores are taken, in place of whole ones.
        normalised: whether the reward is 0-1, in place of 1-5.
    """

    weights: Mapping[ScoreName, float]
    # Whole scores have few levels (T2IA took five values on 180 images, soft scores 179), and images that tie give a
    # trainer no advantage to learn from.
    soft: bool = True
    normalised: bool = True

    @classmethod
    def parse(cls, text: str | None = None) -> Self:
        """Read the words of a reward.

        Args:
            text: words between spaces or commas: names of scores ("overall", "t2ia", "iqa"), each perhaps with
                "=WEIGHT"; "soft" (the default) or "whole"; "normalised" (the default, 0-1) or "1-5". None: those of the
                environment variable DYNEVAL_REWARD, else "overall".

        Raises:
            SettingError: a word is not one of these, or says again what another said.
        """
        text = os.environ.get(SCORE, "overall") if text is None else text
        weights: dict[ScoreName, float] = {}
        said: dict[str, bool] = {}
        for word in str(text).replace(",", " ").split():
            name, _, number = word.partition("=")
            kind = "soft" if word in _KINDS else "normalised" if word in _SCALES else name
            # Also "soft whole" and "t2ia=0.7 t2ia=0.3": which of the two is meant is not for us to guess.
            if kind in said or name in weights:
                raise SettingError(f"reward {text!r}: {word!r} says again what another word said")
            if word in _KINDS or word in _SCALES:
                said[kind] = (_KINDS | _SCALES)[word]
                continue
            try:
                weight = float(number) if "=" in word else 1.0
            except ValueError:
                weight = math.nan
            # NaN fails this comparison as well, whether it stands for a failure above or was written out.
            if not 0 <= weight < math.inf:
                raise SettingError(f"reward {text!r}: the weight {number!r} is no number of at least 0")
            weights[_score_name(name, text)] = weight
        weights = weights or {"overall": 1.0}
        if not any(weights.values()):
            raise SettingError(f"reward {text!r}: all weights are 0")
        return cls(weights, **said)

    def of(self, record: ScoreRecord) -> float:
        """Return the reward of a scored pair, 0-1 or 1-5.

        Raises:
            ValueError: the judge works in a mode without one of these scores, or gives no soft scores.
        """
        scores = chosen_scores(record, self.soft)
        if missing := [name for name in self.weights if name not in scores]:
            raise ValueError(f"the judge gives no {missing[0]} score, only {', '.join(scores)}; see its mode")
        mean = sum(weight * scores[name] for name, weight in self.weights.items()) / sum(self.weights.values())
        return self.on_scale(mean)

    def all_of(self, record: ScoreRecord) -> dict[str, float]:
        """Return all scores that there are, of the reward's kind and on its scale. Raises ValueError as `of`."""
        return {name: self.on_scale(score) for name, score in chosen_scores(record, self.soft).items()}

    def on_scale(self, score: float) -> float:
        """Put a score of 1-5 on the reward's scale."""
        return normalised_score(score) if self.normalised else score


def chosen_scores(record: ScoreRecord, soft: bool) -> dict[ScoreName, float]:
    """Return the whole scores of a record or its soft ones, 1-5 each, by name.

    Raises:
        ValueError: it has no soft scores. Whole ones in their place would put two kinds of numbers into one group.
    """
    if not soft:
        return record.scores
    if not record.soft:
        raise ValueError(f"{record.pair_id}: the judge gives no soft scores; take the whole ones")
    return record.soft


def _score_name(name: str, text: str) -> ScoreName:
    """Return the score that a word names. Raises SettingError, with the nearest word that there is."""
    for known in SCORE_NAMES:
        if name == known:
            return known
    words = (*SCORE_NAMES, *_KINDS, *_SCALES)
    near = nearest(name, words)
    hint = f"did you mean {near}?" if near else f"expected some of {', '.join(words)}"
    raise SettingError(f"reward {text!r}: {name!r} is no word of a reward; {hint}")
