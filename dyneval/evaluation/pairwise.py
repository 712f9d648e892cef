"""Statistics over pairs of images: Kendall's tau-b, and pairwise accuracy with calibrated ties (Deutsch et al. 2023).

An evaluator ranks a pair right when it orders the two images as the raters did, or calls them equal where the raters
did. Evaluators rarely give exactly equal scores, so a difference up to a threshold counts as equal; the threshold is
the one that serves the evaluator best on the data at hand ("Ties Matter", EMNLP 2023; GenAI-Bench reports this figure).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyneval.evaluation.bootstrap import ClusterBootstrap, FloatArray, IntArray

_UNITS = 100_000
"""Differences are told apart to a hundred-thousandth of the evaluator's range."""
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
    items = _Items(
        codes=bootstrap.codes[order],
        levels=_levels(scores)[order],
        units=(scores / span * _UNITS)[order],
        ratings=_levels(humans)[order],
    )
    threshold = _tie_threshold(items)
    agreeing, scores_differ, ratings_differ, right = _weighted_sums(items, bootstrap.counts, threshold)
    with np.errstate(invalid="ignore", divide="ignore"):
        return PairStatistics(
            kendall=agreeing / np.sqrt(scores_differ * ratings_differ),
            accuracy=right / _weighted_pairs(items.codes, bootstrap.counts),
            threshold=threshold * span / _UNITS,
        )


@dataclass(frozen=True, slots=True)
class _Items:
    """Items sorted by cluster: ranks of the exact scores, scores in units, ranks of the ratings."""

    codes: IntArray
    levels: IntArray
    units: FloatArray
    ratings: IntArray


def _levels(values: FloatArray) -> IntArray:
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _tie_threshold(items: _Items) -> int:
    """Return the difference, in units, up to which scores had best be called equal; the smallest of the best."""
    tied = np.zeros(_UNITS + 1, dtype=np.int64)
    ordered = np.zeros(_UNITS + 1, dtype=np.int64)
    step = max(1, _CELLS // len(items.units))
    for start in range(0, len(items.units), step):
        rows, columns = slice(start, start + step), slice(start, None)
        apart = items.units[rows, None] - items.units[None, columns]
        human = items.ratings[rows, None] - items.ratings[None, columns]
        later = np.arange(apart.shape[1])[None, :] > np.arange(apart.shape[0])[:, None]
        agrees = ((apart > 0) & (human > 0)) | ((apart < 0) & (human < 0))
        tied += _histogram(apart[later & (human == 0)])
        ordered += _histogram(apart[later & agrees])
    return int(np.argmax(np.cumsum(tied) + ordered.sum() - np.cumsum(ordered)))


def _histogram(differences: FloatArray) -> IntArray:
    # Differences are rounded, not scores: equal gaps between scores on a grid must fall into one place.
    return np.bincount(np.rint(np.abs(differences)).astype(np.int64), minlength=_UNITS + 1)


def _weighted_pairs(codes: IntArray, counts: IntArray) -> FloatArray:
    sizes = np.bincount(codes).astype(np.float64)
    drawn = counts * sizes
    across = drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)
    return np.asarray(across / 2 + (counts * (sizes * (sizes - 1) / 2)).sum(axis=1))


def _weighted_sums(items: _Items, counts: IntArray, threshold: int) -> FloatArray:
    """Sum four properties of item pairs under each resample's counts, shape (4, 1 + resamples)."""
    weights = counts.astype(np.float32)
    starts = np.searchsorted(items.codes, np.arange(weights.shape[1]))
    ends = np.append(starts[1:], len(items.codes))
    sums = np.zeros((4, len(weights)))
    first = 0
    while first < len(starts):
        reach = starts[first] + max(1, _CELLS // len(items.codes))
        last = max(first + 1, int(np.searchsorted(ends, reach, side="right")))
        rows = slice(int(starts[first]), int(ends[last - 1]))
        for number, held in enumerate(_properties(items, rows, threshold)):
            # Rows first: whole rows are added at once, and few are left for the slower sum along a row.
            by_cluster = np.add.reduceat(held, starts[first:last] - rows.start, axis=0, dtype=np.int32)
            by_cluster = np.add.reduceat(by_cluster, starts[first:] - rows.start, axis=1)
            sums[number] += _quadratic(by_cluster.astype(np.float32), weights[:, first:])
        first = last
    return sums


def _properties(items: _Items, rows: slice, threshold: int) -> Iterator[NDArray[np.int8]]:
    """Yield what holds for the pairs of `rows` with themselves and all later items: int8, shape (rows, later)."""
    columns = slice(rows.start, None)
    above, below = (
        items.levels[rows, None] > items.levels[None, columns],
        items.levels[rows, None] < items.levels[None, columns],
    )
    better, worse = (
        items.ratings[rows, None] > items.ratings[None, columns],
        items.ratings[rows, None] < items.ratings[None, columns],
    )
    differ = better | worse
    yield ((above & better) | (below & worse)).view(np.int8) - ((above & worse) | (below & better)).view(np.int8)
    yield (above | below).view(np.int8)
    yield differ.view(np.int8)
    apart = items.units[rows, None] - items.units[None, columns]
    above, below = apart > threshold + 0.5, apart < -threshold - 0.5
    right = (above & better) | (below & worse) | ~(above | below | differ)
    np.fill_diagonal(right, False)  # an item beside itself is no pair
    yield right.view(np.int8)


def _quadratic(by_cluster: FloatArray, weights: FloatArray) -> FloatArray:
    """Weigh sums over pairs of clusters by both counts, over pairs inside a cluster by its count alone.

    Args:
        by_cluster: shape (some clusters, these and all later ones), symmetric in its first square.
        weights: of these and all later clusters, shape (1 + resamples, clusters).
    """
    rows = len(by_cluster)
    inside = by_cluster.diagonal() / 2
    by_cluster = by_cluster.copy()
    by_cluster[:, :rows] = np.triu(by_cluster[:, :rows], 1)
    # Whole numbers below 2**24 throughout, so float32 is exact until the last sum.
    across = (weights[:, :rows] * (weights @ by_cluster.T)).sum(axis=1, dtype=np.float64)
    return np.asarray(across + weights[:, :rows].astype(np.float64) @ inside.astype(np.float64))
