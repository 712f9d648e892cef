"""Agreement of an evaluator with human ratings: SRCC, PLCC, KRCC and pairwise accuracy, with intervals.

agreement(scores, ratings, prompts).srcc  ->  Estimate(value=0.79, low=0.78, high=0.80)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from dyneval.evaluation.bootstrap import (
    ClusterBootstrap,
    Estimate,
    FloatArray,
    Numbers,
    weighted_pearson,
    weighted_ranks,
)
from dyneval.evaluation.pairwise import pair_statistics

_RATERS = 10
"""Raters of an image that are left out in turn, at most."""
FEWEST = 3
"""With fewer pairs no coefficient is given: two points always correlate perfectly."""


def spearman(x: Numbers, y: Numbers) -> float:
    """Spearman's rank correlation; NaN when either side is constant or there are fewer than two values.

    Raises:
        ValueError: the lengths differ.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} values cannot be correlated with {len(second)}")
    if len(first) < 2 or _flat(first) or _flat(second):
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well an evaluator agrees with raters over `items` images of `prompts` prompts.

    `left_out` counts items without a finite score or rating. Differences of the evaluator up to `tie_threshold` count
    as ties in `pairwise_accuracy`.
    """

    items: int
    prompts: int
    left_out: int
    srcc: Estimate
    plcc: Estimate
    krcc: Estimate
    pairwise_accuracy: Estimate
    tie_threshold: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the row as it stands in a JSON file."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def agreement(
    scores: Numbers,
    ratings: Numbers,
    clusters: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
    pairs: bool = True,
) -> Agreement:
    """Compare an evaluator's scores with human ratings of the same images.

    Args:
        scores: the evaluator's, any scale; NaN where it gave none.
        ratings: the raters' mean, any scale.
        clusters: the prompt behind each image; prompts are drawn as a whole.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        pairs: also compute KRCC and pairwise accuracy, whose time grows with the square of the number of images.

    Raises:
        ValueError: the three do not have the same length.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    if not len(x) == len(y) == len(clusters):
        raise ValueError(f"{len(x)} scores, {len(y)} ratings and {len(clusters)} prompts do not belong together")
    kept = np.isfinite(x) & np.isfinite(y)
    x, y, names = x[kept], y[kept], np.asarray(clusters, dtype=object)[kept].astype(str)
    left_out = int(len(kept) - kept.sum())
    reason = undefined_reason(x, y)
    if reason is not None:
        return _undefined(len(x), len(set(names)), left_out, reason)
    bootstrap = ClusterBootstrap(names, resamples, seed)
    pairwise = pair_statistics(x, y, bootstrap) if pairs else None
    skipped = Estimate.undefined("not asked for")
    return Agreement(
        items=len(x),
        prompts=bootstrap.clusters,
        left_out=left_out,
        srcc=Estimate.from_resamples(srcc_resamples(x, y, bootstrap), bootstrap.clusters),
        plcc=Estimate.from_resamples(bootstrap.over_items(lambda w: weighted_pearson(w, x, y)), bootstrap.clusters),
        krcc=Estimate.from_resamples(pairwise.kendall, bootstrap.clusters) if pairwise else skipped,
        pairwise_accuracy=Estimate.from_resamples(pairwise.accuracy, bootstrap.clusters) if pairwise else skipped,
        tie_threshold=pairwise.threshold if pairwise else None,
    )


def srcc_resamples(x: FloatArray, y: FloatArray, bootstrap: ClusterBootstrap) -> FloatArray:
    """Spearman's correlation on the data and on every resample, shape (1 + resamples,)."""
    return bootstrap.over_items(lambda w: weighted_pearson(w, weighted_ranks(w, x), weighted_ranks(w, y)))


def human_ceiling(
    ratings: Sequence[Sequence[float]], clusters: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> Agreement | None:
    """How well one rater agrees with the mean of the others: what an evaluator can hope for against a mean of them.

    Over images with two or more ratings. Each of an image's raters is left out in turn; where images have different
    numbers of them, those of an image with fewer are taken more than once. KRCC and pairwise accuracy are not computed.

    Args:
        ratings: of each image one number a rater, NaN for none.
        clusters: the prompt behind each image.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        None where fewer than `FEWEST` images have two ratings.
    """
    given = [[value for value in values if np.isfinite(value)] for values in ratings]
    several = [number for number, values in enumerate(given) if len(values) > 1]
    if len(several) < FEWEST:
        return None
    bootstrap = ClusterBootstrap([clusters[number] for number in several], resamples, seed)
    srcc, plcc = [], []
    for turn in range(min(_RATERS, max(len(given[number]) for number in several))):
        alone = [given[number][turn % len(given[number])] for number in several]
        x = np.array(alone, np.float64)
        y = np.array(
            [(sum(given[i]) - one) / (len(given[i]) - 1) for i, one in zip(several, alone, strict=True)], np.float64
        )
        srcc.append(srcc_resamples(x, y, bootstrap))
        plcc.append(bootstrap.over_items(partial(_pearson_of, x, y)))
    skipped = Estimate.undefined("not computed for raters")
    return Agreement(
        items=len(several),
        prompts=bootstrap.clusters,
        left_out=len(given) - len(several),
        srcc=Estimate.from_resamples(np.mean(srcc, axis=0), bootstrap.clusters),
        plcc=Estimate.from_resamples(np.mean(plcc, axis=0), bootstrap.clusters),
        krcc=skipped,
        pairwise_accuracy=skipped,
        tie_threshold=None,
    )


def _pearson_of(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    return weighted_pearson(weights, x, y)


def system_agreement(
    scores: Numbers,
    ratings: Numbers,
    models: Sequence[str],
    clusters: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Correlate the means over each T2I model ("srcc", "plcc"): does the evaluator rank models as people do?

    Images of no known model, "" in `models`, are left out.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    kept = np.isfinite(x) & np.isfinite(y) & np.array([bool(name) for name in models], np.bool_)
    names, codes = np.unique(np.asarray(models, dtype=object)[kept].astype(str), return_inverse=True)
    if len(names) < FEWEST:
        reason = f"needs at least {FEWEST} T2I models, found {len(names)}"
        return {"srcc": Estimate.undefined(reason), "plcc": Estimate.undefined(reason)}
    bootstrap = ClusterBootstrap(np.asarray(clusters, dtype=object)[kept].astype(str), resamples, seed)
    member = np.eye(len(names))[codes.reshape(-1)]
    means = [bootstrap.over_items(partial(_model_means, member, values)) for values in (x[kept], y[kept])]
    pairs = list(zip(*means, strict=True))
    return {
        "srcc": Estimate.from_resamples(np.array([_finite(spearman, a, b) for a, b in pairs]), bootstrap.clusters),
        "plcc": Estimate.from_resamples(np.array([_finite(_pearson, a, b) for a, b in pairs]), bootstrap.clusters),
    }


def category_agreement(
    scores: Numbers,
    ratings: Numbers,
    clusters: Sequence[str],
    categories: Sequence[Sequence[str]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Agreement]:
    """Agreement within each category (an image may have several), without the statistics over pairs; sorted by name."""
    members: dict[str, list[int]] = {}
    for item, names in enumerate(categories):
        for name in names:
            members.setdefault(name, []).append(item)
    return {
        name: agreement(
            *([values[i] for i in members[name]] for values in (scores, ratings, clusters)),  # type: ignore[arg-type]
            resamples=resamples,
            seed=seed,
            pairs=False,
        )
        for name in sorted(members)
    }


def undefined_reason(x: FloatArray, y: FloatArray) -> str | None:
    """Say why no correlation of these finite values exists, or None when there is one."""
    if len(x) < FEWEST:
        return f"needs at least {FEWEST} rated and scored images, found {len(x)}"
    if _flat(x):
        return f"the evaluator gives every image the same score, {x[0]:g}"
    if _flat(y):
        return f"the raters give every image the same score, {y[0]:g}"
    return None


def as_mapping(estimates: Mapping[str, Estimate]) -> dict[str, object]:
    """Return named estimates as they stand in a JSON file."""
    return {name: _plain(value) for name, value in estimates.items()}


def _undefined(items: int, prompts: int, left_out: int, reason: str) -> Agreement:
    nothing = Estimate.undefined(reason)
    return Agreement(items, prompts, left_out, nothing, nothing, nothing, nothing, None)


def _flat(values: FloatArray) -> bool:
    return bool(np.all(values == values[:1]))


def _model_means(member: FloatArray, values: FloatArray, weights: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * values) @ member / (weights @ member))


def _pearson(x: FloatArray, y: FloatArray) -> float:
    return float(weighted_pearson(np.ones((1, len(x))), x, y)[0])


def _finite(statistic: Any, x: FloatArray, y: FloatArray) -> float:
    kept = np.isfinite(x) & np.isfinite(y)
    return float(statistic(x[kept], y[kept])) if kept.sum() >= FEWEST else float("nan")


def _plain(value: object) -> object:
    if isinstance(value, Estimate):
        return {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) is not None}
    return value
