"""Time of agreement with intervals, beside resamples that are written out one by one.

    python benchmarks/agreement.py --images 2000 9600

The baseline draws prompts, repeats their images, calls scipy (SRCC, PLCC, KRCC) and counts all pairs (pairwise
accuracy) on each resample; its time for all resamples is extrapolated from `--baseline-resamples`.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import scipy.stats

from dyneval.evaluation.bootstrap import ClusterBootstrap
from dyneval.evaluation.correlation import agreement


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 9600])
    parser.add_argument("--per-prompt", type=int, default=6)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--baseline-resamples", type=int, default=4)
    arguments = parser.parse_args()
    print("| images | resamples | written out s | weighted s | times | same SRCC, PLCC, KRCC |")
    print("|---|---|---|---|---|---|")
    for images in arguments.images:
        print(row(images, arguments))


def row(images: int, arguments: argparse.Namespace) -> str:
    """Measure one size."""
    generator = np.random.default_rng(0)
    ratings = np.round(generator.normal(3, 1, images) * 3) / 3
    scores = np.round((ratings + generator.normal(0, 1, images)) * 20) / 20
    prompts = [f"p{number // arguments.per_prompt}" for number in range(images)]

    started = time.perf_counter()
    found = agreement(scores, ratings, prompts, resamples=arguments.resamples)
    weighted = time.perf_counter() - started

    drawn = ClusterBootstrap(prompts, arguments.baseline_resamples, 0)
    started = time.perf_counter()
    for counts in drawn.counts[1:]:
        rows = np.repeat(np.arange(images), counts[drawn.codes])
        statistics(scores[rows], ratings[rows], found.tie_threshold or 0)
    written_out = (time.perf_counter() - started) / arguments.baseline_resamples * arguments.resamples

    expected = statistics(scores, ratings, found.tie_threshold or 0)[:3]
    same = np.allclose([found.srcc.value, found.plcc.value, found.krcc.value], expected)
    times = written_out / weighted
    return f"| {images} | {arguments.resamples} | {written_out:.0f} | {weighted:.1f} | {times:.0f} | {same} |"


def statistics(scores: np.ndarray, ratings: np.ndarray, threshold: float) -> tuple[float, float, float, float]:
    """The four coefficients, each in the plain way."""
    right = pairs = 0
    for number in range(len(scores) - 1):
        apart, human = scores[number] - scores[number + 1 :], ratings[number] - ratings[number + 1 :]
        equal = np.abs(apart) <= threshold
        right += int(np.where(human == 0, equal, ~equal & (apart * human > 0)).sum())
        pairs += len(apart)
    return (
        scipy.stats.spearmanr(scores, ratings).statistic,
        scipy.stats.pearsonr(scores, ratings).statistic,
        scipy.stats.kendalltau(scores, ratings).statistic,
        right / pairs,
    )


if __name__ == "__main__":
    main()
