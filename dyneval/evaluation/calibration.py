"""What a score means on the raters' scale, and how far off it may be for a new image.

Prompts are dealt into four parts by their hash. On the first two a line and a rising step function (isotonic
regression, pool adjacent violators) from score to rating are fitted; which is better is seen on the second when they
are fitted on the first alone. The errors on the third give the half width of an interval for a new image (split
conformal prediction, Vovk et al. 2005), and the fourth only tests all that. The interval holds for new prompts of the
same kind: images of one prompt are not independent, so a few prompts with many images make it less sure than its level
says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dyneval.evaluation.bootstrap import FloatArray, Numbers
from dyneval.hashing import part_of

FEWEST = 20
"""Images in each part: the 90 % quantile of fewer errors would rest on one or two of them."""
LEVEL = 0.9
# Two to fit the maps and to choose between them, one for the width of the interval, one for the test.
_PARTS = 4


@dataclass(frozen=True, slots=True)
class Calibration:
    """Maps from score to rating, fitted on some prompts and tested on others.

    Attributes:
        images: that the maps were tested on.
        slope: of the line.
        intercept: of the line.
        steps: scores and the ratings that the step function gives them, rising; between two it runs straight.
        constant: root mean square error of the mean rating of the first part, which knows no score.
        linear: that of the line.
        isotonic: that of the step function.
        best: "linear" or "isotonic".
        half_width: a new image's rating lies within this of the best map's with probability `level`; None where the
            third part is too small for such a level.
        level: as asked for.
        covered: share of the test images whose rating does.
    """

    images: int
    slope: float
    intercept: float
    steps: list[tuple[float, float]]
    constant: float
    linear: float
    isotonic: float
    best: str
    half_width: float | None
    level: float
    covered: float | None


def calibrate(scores: Numbers, ratings: Numbers, clusters: Sequence[str], level: float = LEVEL) -> Calibration | None:
    """Fit and test the maps.

    Args:
        scores: the evaluator's, NaN for none.
        ratings: the raters' means, NaN for none.
        clusters: the prompt behind each image.
        level: of the interval, 0-1.

    Returns:
        None where one of the four parts has fewer than `FEWEST` images, or all scores are equal.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(ratings, np.float64)
    # By the hash of the prompt: all images of a prompt are in one part, and a second run has the same parts.
    part = np.array([part_of(cluster, "calibration", _PARTS) for cluster in clusters])
    known = np.isfinite(x) & np.isfinite(y)
    first, second, third, fourth = (known & (part == number) for number in range(_PARTS))
    fitted = first | second
    if min(chosen.sum() for chosen in (first, second, third, fourth)) < FEWEST or np.ptp(x[first]) == 0:
        return None
    trial, maps = _fit(x[first], y[first]), _fit(x[fitted], y[fitted])
    tried = trial.both(x[second])
    best = min(tried, key=lambda name: _error(tried[name], y[second]))
    errors = np.sort(np.abs(maps.both(x[third])[best] - y[third]))
    # Of n + 1 errors, the new image's included: this is what makes the promised share hold for any distribution.
    place = math.ceil((len(errors) + 1) * level)
    half_width = float(errors[place - 1]) if place <= len(errors) else None
    tested = maps.both(x[fourth])
    missed = np.abs(tested[best] - y[fourth])
    return Calibration(
        images=int(fourth.sum()),
        slope=maps.slope,
        intercept=maps.intercept,
        steps=maps.steps,
        constant=_error(np.full(fourth.sum(), y[fitted].mean()), y[fourth]),
        linear=_error(tested["linear"], y[fourth]),
        isotonic=_error(tested["isotonic"], y[fourth]),
        best=best,
        half_width=half_width,
        level=level,
        covered=None if half_width is None else float(np.mean(missed <= half_width)),
    )


class _FittedMaps(NamedTuple):
    slope: float
    intercept: float
    steps: list[tuple[float, float]]

    def both(self, scores: FloatArray) -> dict[str, FloatArray]:
        """The ratings that each map gives to scores."""
        ends, ratings = zip(*self.steps, strict=True)
        return {"linear": self.slope * scores + self.intercept, "isotonic": np.interp(scores, ends, ratings)}


def _fit(x: FloatArray, y: FloatArray) -> _FittedMaps:
    """Fit the line by least squares, and the rising step function that is nearest to y."""
    from scipy.optimize import isotonic_regression

    slope, intercept = np.polyfit(x, y, 1)
    # One point a different score, weighted by its images: the step function has one value for equal scores.
    levels, code = np.unique(x, return_inverse=True)
    counts = np.bincount(code)
    fitted = isotonic_regression(np.bincount(code, y) / counts, weights=counts).x
    # Only the ends of the steps are kept; between them the value does not change.
    is_end = np.append(True, np.diff(fitted) != 0) | np.append(np.diff(fitted) != 0, True)
    steps = [(float(score), float(rating)) for score, rating in zip(levels[is_end], fitted[is_end], strict=True)]
    return _FittedMaps(float(slope), float(intercept), steps)


def _error(predicted: FloatArray, ratings: FloatArray) -> float:
    return float(np.sqrt(np.mean((predicted - ratings) ** 2)))
