"""Statistics over pairs of images: Kendall's tau-b, and pairwise accuracy with calibrated ties (Deutsch et al. 2023).

An evaluator ranks a pair right when it orders the two images as the raters did, or calls them equal where the raters
did. Evaluators rarely give exactly equal scores, so a difference up to a threshold counts as equal; the threshold is
the one that serves the evaluator best on the data at hand ("Ties Matter", EMNLP 2023; GenAI-Bench reports this figure).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dyneval.evaluation.bootstrap import ClusterBootstrap, FloatArray, IntArray

_UNITS = 100_000
"""Thresholds are whole hundred-thousandths of the evaluator's range."""
_CELLS = 2_000_000
"""Pairs looked at a time."""


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Both statistics on the data (first entry) and every resample, shape (1 + resamples,); `threshold` in scores."""

    kendall: FloatArray
    accuracy: FloatArray
    threshold: float


def pair_statistics(scores: FloatArray, humans: FloatArray, bootstrap: ClusterBootstrap) -> PairStatistics:
    """Compute both statistics over all pairs of items.

    A pair within one cluster counts as often as its cluster was drawn; copies of one item are never paired.

    Args:
        scores: the evaluator's, finite, shape (items,).
        humans: the raters', finite, shape (items,).
        bootstrap: over the same items.
    """
    order = np.argsort(bootstrap.codes, kind="stable")
    span = float(np.ptp(scores)) or 1.0
    units = (scores[order] - scores.min()) / span * _UNITS
    ratings = humans[order]
    threshold = tie_threshold(units, ratings)
    sums = _weighted_sums(units, ratings, bootstrap.codes[order], bootstrap.counts, threshold)
    agreeing, scores_differ, ratings_differ, right, pairs = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        return PairStatistics(
            kendall=agreeing / np.sqrt(scores_differ * ratings_differ),
            accuracy=right / pairs,
            threshold=threshold * span / _UNITS,
        )


def tie_threshold(units: FloatArray, ratings: FloatArray) -> int:
    """Return the difference up to which two scores had best be called equal, the smallest of equally good ones.

    Args:
        units: the evaluator's scores in hundred-thousandths of its range, shape (items,).
        ratings: the raters' scores, shape (items,).
    """
    tied = np.zeros(_UNITS + 2, dtype=np.int64)
    ordered = np.zeros(_UNITS + 2, dtype=np.int64)
    step = max(1, _CELLS // len(units))
    for start in range(0, len(units), step):
        rows = slice(start, start + step)
        apart = units[rows, None] - units[None, start:]
        human = ratings[rows, None] - ratings[None, start:]
        later = np.arange(apart.shape[1])[None, :] > np.arange(apart.shape[0])[:, None]
        place = np.ceil(np.abs(apart)).astype(np.int64)
        tied += np.bincount(place[later & (human == 0)], minlength=_UNITS + 2)
        ordered += np.bincount(place[later & (apart * human > 0)], minlength=_UNITS + 2)
    right = np.cumsum(tied) + ordered.sum() - np.cumsum(ordered)
    return int(np.argmax(right))


def _weighted_sums(
    units: FloatArray, ratings: FloatArray, codes: IntArray, counts: IntArray, threshold: int
) -> FloatArray:
    """Sum five properties of item pairs under each resample's counts, shape (5, 1 + resamples); items by cluster."""
    weights = counts.astype(np.float32)
    starts = np.searchsorted(codes, np.arange(weights.shape[1]))
    ends = np.append(starts[1:], len(codes))
    sums = np.zeros((5, len(weights)))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + max(1, _CELLS // len(codes)), side="right")))
        rows = slice(int(starts[first]), int(ends[last - 1]))
        for number, held in enumerate(_properties(units, ratings, rows, threshold)):
            by_cluster = np.add.reduceat(held, starts, axis=1, dtype=np.float32)
            by_cluster = np.add.reduceat(by_cluster, starts[first:last] - starts[first], axis=0)
            sums[number] += _quadratic(by_cluster, weights, slice(first, last))
        first = last
    return sums / 2  # every pair was seen from both its ends


def _properties(units: FloatArray, ratings: FloatArray, rows: slice, threshold: int) -> list[FloatArray]:
    apart = units[rows, None] - units[None, :]
    human = np.sign(ratings[rows, None] - ratings[None, :])
    equal = np.abs(apart) <= threshold
    sign = np.sign(apart)
    pairs = np.ones(apart.shape, dtype=np.float32)
    itself = np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)
    pairs[itself] = 0
    right = np.where(human == 0, equal, ~equal & (sign == human)) * pairs
    return [sign * human, np.abs(sign), np.abs(human), right, pairs]


def _quadratic(by_cluster: FloatArray, weights: FloatArray, rows: slice) -> FloatArray:
    """Weigh pairs of clusters by both counts, and pairs inside a cluster by its count alone."""
    local = np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)
    inside = by_cluster[local].copy()
    by_cluster[local] = 0
    # Whole numbers below 2**24 throughout, so float32 is exact until the last sum.
    across = (weights[:, rows] * (weights @ by_cluster.T)).sum(axis=1, dtype=np.float64)
    return across + weights[:, rows].astype(np.float64) @ inside.astype(np.float64)
