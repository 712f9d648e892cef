"""What a score means on the raters' scale, and how far off it may be for a new image.

Prompts are dealt into three parts by their hash. On the first (half) a line and a rising step function (isotonic
regression, pool adjacent violators) from score to rating are fitted; on the second (a quarter) the errors of the better
of the two are collected, whose quantile is the half width of an interval for a new image (split conformal prediction,
Vovk et al. 2005); the third (a quarter) only tests both. The interval holds for new prompts of the same kind: images of
one prompt are not independent, so a few prompts with many images make it less sure than its level says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dyneval.evaluation.bootstrap import FloatArray, Numbers
from dyneval.hashing import part_of

FEWEST = 20
"""Images in each part; a quantile of fewer is no quantile."""
LEVEL = 0.9
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
        best: "linear" or "isotonic", by the errors on the second part.
        half_width: a new image's rating lies within this of the map's with probability `level`.
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
    half_width: float
    level: float
    covered: float

    def to_dict(self) -> dict[str, object]:
        """Return the fields as they stand in agreement.json."""
        return asdict(self)


def calibrate(scores: Numbers, ratings: Numbers, clusters: Sequence[str], level: float = LEVEL) -> Calibration | None:
    """Fit and test the maps.

    Args:
        scores: the evaluator's, NaN for none.
        ratings: the raters' means, NaN for none.
        clusters: the prompt behind each image.
        level: of the interval, 0-1.

    Returns:
        None where one of the three parts has fewer than `FEWEST` images, or all scores are equal.
    """
    x, y = np.asarray(scores, np.float64), np.asarray(ratings, np.float64)
    part = np.array([part_of(cluster, "calibration", _PARTS) for cluster in clusters])
    known = np.isfinite(x) & np.isfinite(y)
    fitted, second, third = (known & chosen for chosen in (part < 2, part == 2, part == 3))
    if min(fitted.sum(), second.sum(), third.sum()) < FEWEST or np.ptp(x[fitted]) == 0:
        return None
    slope, intercept = np.polyfit(x[fitted], y[fitted], 1)
    steps = _isotonic(x[fitted], y[fitted])
    maps = {
        "linear": slope * x + intercept,
        "isotonic": np.interp(x, [score for score, _ in steps], [rating for _, rating in steps]),
    }
    best = min(maps, key=lambda name: _error(maps[name][second], y[second]))
    errors = np.sort(np.abs(maps[best][second] - y[second]))
    # One more than the share of errors: the new image counts among those it is compared with.
    place = math.ceil((len(errors) + 1) * level) - 1
    half_width = float(errors[min(place, len(errors) - 1)])
    return Calibration(
        images=int(third.sum()),
        slope=float(slope),
        intercept=float(intercept),
        steps=steps,
        constant=_error(np.full(third.sum(), y[fitted].mean()), y[third]),
        linear=_error(maps["linear"][third], y[third]),
        isotonic=_error(maps["isotonic"][third], y[third]),
        best=best,
        half_width=half_width,
        level=level,
        covered=float(np.mean(np.abs(maps[best][third] - y[third]) <= half_width)),
    )


def _isotonic(x: FloatArray, y: FloatArray) -> list[tuple[float, float]]:
    """The ends of the steps of the rising function that is nearest to y."""
    from scipy.optimize import isotonic_regression

    levels, code = np.unique(x, return_inverse=True)
    counts = np.bincount(code)
    fitted = isotonic_regression(np.bincount(code, y) / counts, weights=counts).x
    is_end = np.append(True, np.diff(fitted) != 0) | np.append(np.diff(fitted) != 0, True)
    return [(float(score), float(rating)) for score, rating in zip(levels[is_end], fitted[is_end], strict=True)]


def _error(predicted: FloatArray, ratings: FloatArray) -> float:
    return float(np.sqrt(np.mean((predicted - ratings) ** 2)))
