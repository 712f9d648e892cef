"""Propose tiers for T2I models from their scores, by natural breaks, for the next run of Step 2.

Step 2 gives prompts of a tier to models of that tier, and the paper's tiers are of 36 models of their time. A board
with new models shows which tier each would be in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from dyneval.errors import SettingError
from dyneval.evaluation import published
from dyneval.evaluation.bootstrap import FloatArray, IntArray
from dyneval.evaluation.leaderboard import Board
from dyneval.records import TIERS


@dataclass(frozen=True, slots=True)
class TierProposal:
    """A model's tier now and as proposed; `support` is the share of resamples that propose the same.

    `slug` is the model's name in Step 2's table of models, where that is known.
    """

    model: str
    slug: str
    current: int | None
    proposed: int
    score: float
    support: float | None


def natural_breaks(values: Sequence[float] | FloatArray, classes: int = len(TIERS)) -> list[int]:
    """Cut values into classes with the least spread inside them (Jenks), by trying all cuts; class 1 is the highest.

    Args:
        values: finite, at least `classes` different ones.
        classes: how many.

    Returns:
        The class of each value; equal values are in one class.

    Raises:
        SettingError: too few different values.
    """
    scores = np.asarray(values, dtype=np.float64)
    levels, code, weight = np.unique(-scores, return_inverse=True, return_counts=True)
    if len(levels) < classes:
        raise SettingError(f"{classes} classes need at least {classes} different scores, found {len(levels)}")
    inside = _spread(-levels, weight)
    # All cuts: of 36 models and three classes these are 595, and the best one is found for certain.
    cuts = np.array([(0, *cut, len(levels)) for cut in combinations(range(1, len(levels)), classes - 1)])
    best = cuts[np.argmin(inside[cuts[:, :-1], cuts[:, 1:]].sum(axis=1))]
    return [int(number) for number in np.searchsorted(best[1:], code.reshape(-1), side="right") + 1]


def propose_tiers(board: Board) -> list[TierProposal]:
    """Cut the models of a board into three tiers; best first.

    Raises:
        SettingError: fewer than three models with different scores.
    """
    proposed = natural_breaks([row.mean for row in board.rows])
    support: list[float] | None = None
    if board.ranked_resamples is not None:
        # A resample in which a model has no image, or fewer than three scores differ, proposes nothing.
        drawn = [
            natural_breaks(values)
            for values in board.ranked_resamples[1:]
            if np.isfinite(values).all() and len(np.unique(values)) >= len(TIERS)
        ]
        support = [float(share) for share in (np.array(drawn) == np.asarray(proposed)).mean(axis=0)] if drawn else None
    found = []
    for number, (row, tier) in enumerate(zip(board.rows, proposed, strict=True)):
        known = published.find_model(row.model)
        slug, share = known.slug if known else row.model, support[number] if support else None
        found.append(TierProposal(row.model, slug, row.tier, tier, row.normalised, share))
    return found


def _spread(levels: FloatArray, weight: IntArray) -> FloatArray:
    """Sum of squared distances from the mean in each stretch [i, j) of the levels, shape (levels + 1, levels + 1)."""
    # From running sums, so that all stretches take one subtraction each: sum of squares minus squared sum by number.
    mass, first, second = (
        np.concatenate([[0.0], np.cumsum(values)]) for values in (weight, weight * levels, weight * levels**2)
    )
    number = mass[None, :] - mass[:, None]
    total = first[None, :] - first[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(number > 0, second[None, :] - second[:, None] - total**2 / number, 0))
