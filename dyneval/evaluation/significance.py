"""Is one evaluator better than another? Paired bootstrap over prompts, and Williams' test for shared raters.

Two evaluators are compared on the same images, so their errors go together; tests for independent samples would call
too few differences sure. Both p-values are shown: the bootstrap knows that images of one prompt go together, Williams'
test is the usual one in papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dyneval.evaluation.bootstrap import ClusterBootstrap, Estimate, FloatArray, Numbers
from dyneval.evaluation.correlation import spearman, srcc_resamples, undefined_reason


@dataclass(frozen=True, slots=True)
class Difference:
    """SRCC of `first` minus SRCC of `second`, on the images that both scored; p-values are two-sided."""

    first: str
    second: str
    items: int
    difference: Estimate
    p_bootstrap: float | None
    p_williams: float | None


def srcc_difference(
    first: tuple[str, Numbers],
    second: tuple[str, Numbers],
    ratings: Numbers,
    clusters: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Test whether two evaluators agree equally well with the raters.

    Args:
        first: name, and scores of the images; NaN where it gave none.
        second: likewise.
        ratings: the raters' means.
        clusters: the prompt behind each image.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.
    """
    a, b, y = (np.asarray(values, dtype=np.float64) for values in (first[1], second[1], ratings))
    kept = np.isfinite(a) & np.isfinite(b) & np.isfinite(y)
    a, b, y = a[kept], b[kept], y[kept]
    reason = undefined_reason(a, y) or undefined_reason(b, y)
    if reason:
        return Difference(first[0], second[0], len(y), Estimate(None, reason=reason), None, None)
    # One bootstrap for both: the difference in each resample is over the same prompts.
    bootstrap = ClusterBootstrap(np.asarray(clusters, dtype=object)[kept].astype(str), resamples, seed)
    drawn = srcc_resamples(a, y, bootstrap) - srcc_resamples(b, y, bootstrap)
    return Difference(
        first[0],
        second[0],
        len(y),
        Estimate.from_resamples(drawn, bootstrap.clusters),
        two_sided(drawn[1:], bootstrap.clusters),
        williams(spearman(a, y), spearman(b, y), spearman(a, b), len(y)),
    )


def williams(first: float, second: float, between: float, items: int) -> float | None:
    """Williams' test (1959; Steiger 1980, eq. 7) that two correlations with the same third variable are equal.

    Args:
        first: correlation of the first evaluator with the raters.
        second: correlation of the second evaluator with the raters.
        between: correlation of the two evaluators.
        items: number of images.

    Returns:
        The two-sided p-value, exact for Pearson's and approximate for Spearman's correlation; None with fewer than four
        images or where the test is not defined.
    """
    if items < 4:
        return None
    from scipy.stats import t

    determinant = 1 - first**2 - second**2 - between**2 + 2 * first * second * between
    mean = (first + second) / 2
    below = 2 * (items - 1) / (items - 3) * determinant + mean**2 * (1 - between) ** 3
    # The three correlations fit together perfectly, such as those of an evaluator and its copy.
    if below <= 0:
        return 1.0 if first == second else None
    statistic = (first - second) * np.sqrt((items - 1) * (1 + between) / below)
    return float(2 * t.sf(abs(statistic), items - 3))


def two_sided(differences: FloatArray, clusters: int) -> float | None:
    """The p-value of a difference by its values in the resamples; None where none is defined.

    It is None for a single cluster as well: its resamples are all alike, so any difference would look sure.
    """
    drawn = differences[np.isfinite(differences)]
    if not len(drawn) or clusters == 1:
        return None
    # One is added on both sides of the fraction: a finite number of resamples never shows p = 0.
    tail = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    return float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))
