"""Statistics over pairs of images: Kendall's tau-b, and pairwise accuracy with calibrated ties (Deutsch et al. 2023).

An evaluator ranks a pair right when it orders the two images as the raters did, or calls them equal where the raters
did. Evaluators rarely give exactly equal scores, so a difference up to a threshold counts as equal; the threshold is
the one that serves the evaluator best on the data at hand ("Ties Matter", EMNLP 2023; GenAI-Bench reports this figure).

Ten thousand images have 50 million pairs and 1,000 resamples, so pairs are counted in blocks of whole arrays, and sums
are kept by cluster: a resample then weighs sums and looks at no pair again. `tests/evaluation/test_statistics.py` has
the same by brute force.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dyneval.evaluation.bootstrap import ClusterBootstrap, FloatArray, IntArray

# Bits of a difference that rounding makes meaningless: 0.3 - 0.2 and 0.2 - 0.1 are equal in the other bits.
_DROPPED = 16
# Of the bits kept, those that the first pass over all pairs ignores: 256 places an octave are left.
_FIRST = 28
# Pairs in one block: arrays of 16 MB.
_CELLS = 2_000_000


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
    items = _SortedItems(
        codes=bootstrap.codes[order],
        levels=_levels(scores)[order],
        scores=scores.astype(np.float64)[order],
        ratings=_levels(humans)[order],
    )
    threshold = _tie_threshold(items)
    agreeing, scores_differ, ratings_differ, right = _weighted_sums(items, bootstrap.counts, threshold)
    # Pairs in each resample: those across clusters, and those inside a cluster, which count once for each draw.
    sizes = np.bincount(items.codes).astype(np.float64)
    drawn = bootstrap.counts * sizes
    across = drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)
    pairs = across / 2 + (bootstrap.counts * (sizes * (sizes - 1) / 2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return PairStatistics(
            kendall=agreeing / np.sqrt(scores_differ * ratings_differ),
            accuracy=right / pairs,
            threshold=float(np.int64(threshold << _DROPPED).view(np.float64)),
        )


@dataclass(frozen=True, slots=True)
class _SortedItems:
    """Items sorted by cluster: ranks of the scores, the scores, ranks of the ratings."""

    codes: IntArray
    levels: IntArray
    scores: FloatArray
    ratings: IntArray


def _levels(values: FloatArray) -> IntArray:
    # Numbers of the sorted different values: whole numbers compare without rounding, and in half the memory.
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _key(differences: FloatArray) -> NDArray[np.int64]:
    """The size of differences as whole numbers in the same order: bits of a positive float are sorted as it is."""
    return (np.abs(differences).view(np.int64) + (1 << (_DROPPED - 1))) >> _DROPPED


def _tie_threshold(items: _SortedItems) -> int:
    """Return the key of the difference up to which scores had best be called equal; the smallest of the best.

    Calling all pairs up to a difference equal makes those that the raters tied right and those that were ordered as by
    the raters wrong. The first pass over all pairs counts both by place, a range of differences. The second pass looks
    at single differences, and only in places where the best one may be, whatever the order of the pairs in them.
    """
    places = (int(np.iinfo(np.int64).max) >> (_DROPPED + _FIRST)) + 1
    tied, ordered = np.zeros(places, np.int64), np.zeros(places, np.int64)
    for of_tied, of_ordered in _differences(items):
        tied += np.bincount(of_tied >> _FIRST, minlength=places)
        ordered += np.bincount(of_ordered >> _FIRST, minlength=places)
    before = ordered.sum() + np.cumsum(tied - ordered) - (tied - ordered)
    may_be_best = before + tied >= (before + tied - ordered).max()
    # 0 is always tried: to call only equal scores equal is a choice, too.
    gains: dict[int, int] = {0: 0}
    for sign, keys in ((sign, keys) for both in _differences(items) for sign, keys in zip((1, -1), both, strict=True)):
        found, counts = np.unique(keys[may_be_best[keys >> _FIRST]], return_counts=True)
        for key, count in zip(found.tolist(), counts.tolist(), strict=True):
            gains[key] = gains.get(key, 0) + sign * count
    keys = np.array(sorted(gains), np.int64)
    gained = np.cumsum([gains[key] for key in keys.tolist()])
    # The sum runs over the places of the second pass alone: `before` has what lies in all others.
    first = np.searchsorted(keys >> _FIRST, keys >> _FIRST)
    right = before[keys >> _FIRST] + gained - np.append(0, gained)[first]
    return int(keys[np.argmax(right)])


def _differences(items: _SortedItems) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield keys of differences between scores: of pairs that the raters tied, and of those ordered as by them."""
    step = max(1, _CELLS // len(items.scores))
    for start in range(0, len(items.scores), step):
        rows, columns = slice(start, start + step), slice(start, None)
        apart = items.scores[rows, None] - items.scores[None, columns]
        human = items.ratings[rows, None] - items.ratings[None, columns]
        later = np.arange(apart.shape[1])[None, :] > np.arange(apart.shape[0])[:, None]
        agrees = ((apart > 0) & (human > 0)) | ((apart < 0) & (human < 0))
        yield _key(apart[later & (human == 0)]), _key(apart[later & agrees])


def _weighted_sums(items: _SortedItems, counts: IntArray, threshold: int) -> FloatArray:
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


def _properties(items: _SortedItems, rows: slice, threshold: int) -> Iterator[NDArray[np.int8]]:
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
    apart = _key(items.scores[rows, None] - items.scores[None, columns]) > threshold
    right = (apart & ((above & better) | (below & worse))) | ~(apart | differ)
    # An item beside itself is no pair.
    np.fill_diagonal(right, False)
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
    # Of the symmetric square only one half, so that no pair of clusters counts twice.
    by_cluster[:, :rows] = np.triu(by_cluster[:, :rows], 1)
    # Whole numbers below 2**24 throughout, so float32 is exact until the last sum.
    across = (weights[:, :rows] * (weights @ by_cluster.T)).sum(axis=1, dtype=np.float64)
    return np.asarray(across + weights[:, :rows].astype(np.float64) @ inside.astype(np.float64))
