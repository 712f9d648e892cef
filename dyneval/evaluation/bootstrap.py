"""A bootstrap over clusters (prompts) that never copies data: a resample is a row of counts, statistics are weighted.

Images made from one prompt are not independent: a hard prompt is hard for all of them. So whole prompts are drawn, as
intervals from single images would be too narrow. A statistic is computed for all resamples at once from the counts; row
0 is always the data as it is, all counts one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyneval.errors import SettingError

FloatArray = NDArray[np.floating[Any]]
Numbers = Sequence[float] | FloatArray
IntArray = NDArray[np.integer[Any]]
LEVEL = 0.95
"""Share of resamples inside an interval."""
ONE_PROMPT = "no interval: the bootstrap draws whole prompts, and there is only one"
# Cells of a weight matrix made at a time: 32 MB as float64.
_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with its 95 % interval; `reason` says why there is no value, or why a value has no interval."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @classmethod
    def from_resamples(cls, values: FloatArray, clusters: int, reason: str = "not defined on these data") -> Estimate:
        """Build from the statistic on the data (first entry) and on every resample; undefined ones are passed over.

        Args:
            values: shape (1 + resamples,).
            clusters: how many the resamples were drawn from. Every resample of a single one is the data again: its
                quantiles would be an interval without width, which looks like certainty. Then there is none.
            reason: what to say when the first entry is NaN.
        """
        if not np.isfinite(values[0]):
            return cls(None, reason=reason)
        # Without resamples nobody has asked for an interval, and its lack needs no reason.
        if clusters == 1 and len(values) > 1:
            return cls(float(values[0]), reason=ONE_PROMPT)
        drawn = values[1:][np.isfinite(values[1:])]
        if not len(drawn):
            return cls(float(values[0]))
        # The percentile interval (Efron and Tibshirani 1993, chapter 13): it stays inside the range of the statistic,
        # such as -1 to 1.
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(values[0]), float(low), float(high))

    def to_dict(self) -> dict[str, float | str]:
        """Return the estimate as it is written to a JSON file; what is None is left out."""
        values = {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}
        return {name: value for name, value in values.items() if value is not None}


class ClusterBootstrap:
    """How often each cluster was drawn in each resample; the same draws serve every statistic and every evaluator."""

    def __init__(self, clusters: Sequence[str] | NDArray[Any], resamples: int = 1000, seed: int = 0) -> None:
        """Draw the resamples.

        Args:
            clusters: the cluster of each item, shape (items,).
            resamples: how many; 0 gives point estimates alone.
            seed: of the random generator.

        Raises:
            SettingError: no items, or a negative number of resamples.
        """
        if not len(clusters) or resamples < 0:
            raise SettingError(f"a bootstrap needs items and resamples >= 0, got {len(clusters)} and {resamples}")
        _, codes = np.unique(np.asarray(clusters), return_inverse=True)
        self.codes: IntArray = codes.reshape(-1)
        self.clusters = int(self.codes.max()) + 1
        self.counts: IntArray = np.vstack(list(drawn_counts(self.clusters, resamples, seed)))

    def over_items(self, statistic: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Compute a statistic of the data and of every resample.

        Args:
            statistic: takes how often each item stands in each resample, shape (some resamples, items), and returns an
                array with a row a resample.

        Returns:
            Shape (1 + resamples, ...).
        """
        step = max(1, _CELLS // len(self.codes))
        starts = range(0, len(self.counts), step)
        # In blocks: the weights of 1,000 resamples of 50,000 images would take 400 MB at once.
        blocks = [statistic(self.counts[s : s + step, self.codes].astype(np.float64)) for s in starts]
        return np.concatenate(blocks)


def drawn_counts(clusters: int, resamples: int, seed: int, items: int = 0) -> Iterator[IntArray]:
    """Yield how often each cluster stands in the data and in every resample, blocks of shape (some, clusters).

    The counts of a million clusters in 1,000 resamples would take 8 GB at once. One seed draws the same counts whatever
    the size of the blocks.

    Args:
        clusters: how many there are.
        resamples: how many follow the data.
        seed: of the random generator.
        items: of all clusters together, where the caller spreads a block over the items; blocks are then smaller.
    """
    yield np.ones((1, clusters), dtype=np.int64)
    random, step = np.random.default_rng(seed), max(1, _CELLS // max(clusters, items))
    for start in range(0, resamples, step):
        yield random.multinomial(clusters, np.full(clusters, 1 / clusters), size=min(step, resamples - start))


def mean_resamples(values: FloatArray, resamples: int, seed: int) -> FloatArray:
    """The mean of one value a cluster, of the data (first entry) and of every resample of the clusters.

    Args:
        values: shape (clusters,).
        resamples: how many.
        seed: of the random generator.

    Returns:
        Shape (1 + resamples,); NaN without any cluster.
    """
    if not len(values):
        return np.full(1 + resamples, np.nan)
    count = len(values)
    return np.concatenate([block @ values / count for block in drawn_counts(count, resamples, seed)])


def weighted_pearson(weights: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Pearson correlation under each row of weights; NaN where one side is constant.

    Args:
        weights: shape (resamples, items).
        x: shape (items,) or (resamples, items).
        y: as `x`.

    Returns:
        Shape (resamples,).
    """
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    covariance = (weights * dx * dy).sum(axis=1)
    spread = (weights * dx * dx).sum(axis=1) * (weights * dy * dy).sum(axis=1)
    scale = np.abs(x).max(initial=0) * np.abs(y).max(initial=0) * total[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = covariance / np.sqrt(spread)
    # A constant side leaves rounding noise in place of a zero spread, and dividing by it would give any value.
    return np.where(np.sqrt(spread) > 1e-12 * scale, np.clip(value, -1, 1), np.nan)


def weighted_ranks(weights: FloatArray, x: FloatArray) -> FloatArray:
    """Mean ranks that `x` has in each resample, computed without writing the resample out.

    Args:
        weights: whole counts, shape (resamples, items).
        x: shape (items,).

    Returns:
        Shape (resamples, items); for an item that was not drawn, the rank it would stand before.
    """
    levels, code = np.unique(x, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(levels)))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(mass, axis=1) - mass + (mass + 1) / 2)[:, code]
