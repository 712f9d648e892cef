"""T2I models against each other, two by two, on the prompts that both have images of.

A board's means are over each model's own prompts, and a model that has only easy ones looks better. On the prompts that
both have, two models are compared fairly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dyneval.evaluation.bootstrap import Estimate, FloatArray
from dyneval.evaluation.scored import ScoredSet

# Means of a model and prompt in one block: 16 MB.
_CELLS = 2_000_000
# Means that differ by less are a tie: the rest is rounding.
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Duel:
    """How `first` does against `second` over the prompts that both have.

    Attributes:
        prompts: how many those are.
        wins: prompts for which the first has the higher mean of the score that ranks.
        ties: prompts for which the means are equal.
        difference: mean over prompts of first minus second, on the scale 1-5.
        win_rate: share of wins, a tie counting half, with its 95 % interval.
    """

    first: str
    second: str
    prompts: int
    wins: int
    ties: int
    difference: float
    win_rate: Estimate

    @property
    def losses(self) -> int:
        """Prompts for which the second has the higher mean."""
        return self.prompts - self.wins - self.ties

    def to_dict(self) -> dict[str, object]:
        """Return the duel as it is written to leaderboard.json."""
        rate = self.win_rate
        return {
            "first": self.first,
            "second": self.second,
            "prompts": self.prompts,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "difference": self.difference,
            "win_rate": {"value": rate.value, "low": rate.low, "high": rate.high},
        }


def duels(scored: ScoredSet, names: Sequence[str], *, resamples: int = 1000, seed: int = 0) -> list[Duel]:
    """Every two models that share a prompt.

    Args:
        scored: the images.
        names: of the models as the board calls them, best first; the better one is a duel's first.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.
    """
    place = {name: number for number, name in enumerate(names)}
    row_of = np.array([place[scored.models[name].name] for name in scored.model_of.things])
    shape = len(names), len(names)
    prompts, wins, ties = (np.zeros(shape, np.int64) for _ in range(3))
    differences = np.zeros(shape)
    for means in _means(scored, row_of):
        for row in range(len(names) - 1):
            apart = means[row] - means[row + 1 :]
            prompts[row, row + 1 :] += np.isfinite(apart).sum(axis=1)
            wins[row, row + 1 :] += (apart > _EQUAL).sum(axis=1)
            ties[row, row + 1 :] += (np.abs(apart) <= _EQUAL).sum(axis=1)
            differences[row, row + 1 :] += np.nansum(apart, axis=1)
    random = np.random.default_rng(seed)
    # Every two models: 36 of them have 630 duels, each with resamples of its own.
    found = []
    for a, b in combinations(range(len(names)), 2):
        number = int(prompts[a, b])
        if number:
            won, tied = int(wins[a, b]), int(ties[a, b])
            outcomes = np.array([won, tied, number - won - tied])
            # A prompt has one of three outcomes, so that drawing prompts with replacement is drawing outcomes.
            drawn = np.vstack([outcomes, random.multinomial(number, outcomes / number, size=resamples)])
            rate = Estimate.from_resamples((drawn[:, 0] + drawn[:, 1] / 2) / number, number)
            found.append(Duel(names[a], names[b], number, won, tied, float(differences[a, b]) / number, rate))
    return found


def _means(scored: ScoredSet, row_of: np.ndarray) -> Iterator[FloatArray]:
    """Mean ranked score of each model for each prompt, NaN for none, blocks of shape (models, some prompts)."""
    models, prompts = len(row_of), scored.prompts.codes
    order = np.argsort(prompts, kind="stable")
    prompt_of, model_of = prompts[order], row_of[scored.model_of.codes[order]]
    ranked = np.frombuffer(scored.ranked)[order]
    # In blocks of prompts: the means of 36 models for a million prompts would take 290 MB.
    step = max(1, _CELLS // models)
    for first in range(0, int(prompt_of[-1]) + 1, step):
        start, end = np.searchsorted(prompt_of, [first, first + step])
        cells = model_of[start:end] * step + prompt_of[start:end] - first
        number = np.bincount(cells, minlength=models * step)
        with np.errstate(invalid="ignore"):
            means = np.bincount(cells, ranked[start:end], models * step) / number
        yield means.reshape(models, step)
