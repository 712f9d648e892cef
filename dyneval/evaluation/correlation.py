"""Agreement of an evaluator with human ratings: SRCC, PLCC, KRCC and pairwise accuracy, with 95 % intervals.

    from dyneval.evaluation.correlation import agreement

    found = agreement([4.5, 2.0, 3.5, 1.0], [4, 2, 5, 1], ["a cat", "a cat", "a dog", "a fox"])
    print(found.srcc.value, found.srcc.low, found.srcc.high)

These are the figures that papers on evaluators report. A wrong one would make every comparison of this package wrong;
`tests/evaluation/test_statistics.py` compares them with scipy and with resamples that are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

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

# Raters of an image that are left out in turn, at most; each costs a bootstrap of its own.
_RATERS = 10
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
    # scipy gives NaN as well, with a warning each time.
    if len(first) < 2 or _flat(first) or _flat(second):
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well an evaluator agrees with raters.

    Attributes:
        items: images with a score and a rating.
        prompts: of those images.
        left_out: images without a finite score or rating.
        srcc: Spearman's rank correlation, -1 to 1.
        plcc: Pearson's correlation, -1 to 1.
        krcc: Kendall's tau-b, -1 to 1.
        pairwise_accuracy: share of pairs of images that the evaluator orders as the raters do, 0-1.
        tie_threshold: differences of the evaluator up to this count as ties in `pairwise_accuracy`.
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
        """Return the row as it is written to a JSON file."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value.to_dict() if isinstance(value, Estimate) else value for name, value in values.items()}


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
        undefined = Estimate(None, reason=reason)
        return Agreement(len(x), len(set(names)), left_out, undefined, undefined, undefined, undefined, None)
    bootstrap = ClusterBootstrap(names, resamples, seed)
    pairwise = pair_statistics(x, y, bootstrap) if pairs else None
    skipped = Estimate(None, reason="not asked for")
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
    """Spearman's correlation on the data (first entry) and on every resample.

    Args:
        x: finite, shape (items,).
        y: finite, shape (items,).
        bootstrap: over the same items.

    Returns:
        Shape (1 + resamples,), -1 to 1; NaN where one side is constant in a resample.
    """
    return bootstrap.over_items(lambda w: weighted_pearson(w, weighted_ranks(w, x), weighted_ranks(w, y)))


def human_ceiling(
    ratings: Sequence[Sequence[float]], clusters: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> Agreement | None:
    """How well one rater agrees with the mean of the others: what an evaluator can hope for against a mean of them.

    Over images with two or more ratings. Each of an image's first ten raters is left out in turn; where images have
    different numbers of them, those of an image with fewer are taken more than once. KRCC and pairwise accuracy are not
    computed.

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
        # An image with fewer raters than others starts over, so that every turn has all images.
        alone = [given[number][turn % len(given[number])] for number in several]
        x = np.array(alone, np.float64)
        y = np.array(
            [(sum(given[i]) - one) / (len(given[i]) - 1) for i, one in zip(several, alone, strict=True)], np.float64
        )
        srcc.append(srcc_resamples(x, y, bootstrap))
        plcc.append(bootstrap.over_items(partial(weighted_pearson, x=x, y=y)))
    skipped = Estimate(None, reason="not computed for raters")
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


def system_agreement(
    scores: Numbers,
    ratings: Numbers,
    models: Sequence[str],
    clusters: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Correlate the means over each T2I model: does the evaluator rank models as people do?

    Args:
        scores: the evaluator's, NaN for none.
        ratings: the raters' means, NaN for none.
        models: the T2I model of each image; images of "", no known model, are left out.
        clusters: the prompt behind each image.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Returns:
        "srcc" and "plcc" over models, undefined with fewer than `FEWEST` of them.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    kept = np.isfinite(x) & np.isfinite(y) & np.array([bool(name) for name in models], np.bool_)
    names, codes = np.unique(np.asarray(models, dtype=object)[kept].astype(str), return_inverse=True)
    if len(names) < FEWEST:
        reason = f"needs at least {FEWEST} T2I models, found {len(names)}"
        return {"srcc": Estimate(None, reason=reason), "plcc": Estimate(None, reason=reason)}
    bootstrap = ClusterBootstrap(np.asarray(clusters, dtype=object)[kept].astype(str), resamples, seed)
    # One column a model with 1 for its images: a product with it sums by model.
    member = np.eye(len(names))[codes.reshape(-1)]
    means = [bootstrap.over_items(partial(_model_means, member, values)) for values in (x[kept], y[kept])]
    srcc, plcc = np.array([_of_models(a, b) for a, b in zip(*means, strict=True)]).T
    return {
        "srcc": Estimate.from_resamples(srcc, bootstrap.clusters),
        "plcc": Estimate.from_resamples(plcc, bootstrap.clusters),
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
    """Agreement within each category, without the statistics over pairs; sorted by name.

    Args:
        scores: the evaluator's, NaN for none.
        ratings: the raters' means, NaN for none.
        clusters: the prompt behind each image.
        categories: of each image, none or several; it counts in each of them.
        resamples: of the bootstrap over the prompts of a category.
        seed: of the bootstrap.
    """
    members: dict[str, list[int]] = {}
    for item, names in enumerate(categories):
        for name in names:
            members.setdefault(name, []).append(item)
    # Without the statistics over pairs: a benchmark has tens of categories, and their time grows with the square of the
    # images.
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


def _flat(values: FloatArray) -> bool:
    return bool(np.all(values == values[:1]))


def _model_means(member: FloatArray, values: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of each model in each resample, (resamples, models); NaN for a model that was not drawn."""
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * values) @ member / (weights @ member))


def _of_models(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Spearman's and Pearson's correlation of the means of models; NaN with fewer than `FEWEST` finite ones."""
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < FEWEST:
        return float("nan"), float("nan")
    x, y = x[kept], y[kept]
    return spearman(x, y), float(weighted_pearson(np.ones((1, len(x))), x, y)[0])
