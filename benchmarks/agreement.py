"""Time of agreement with confidence intervals, beside resamples that are computed one by one.

    python benchmarks/agreement.py --images 2000 9600

The baseline draws prompts, repeats their images, calls scipy (SRCC, PLCC, KRCC) and counts all pairs (pairwise
accuracy) on each resample. Its time for all resamples is extrapolated from `--baseline-resamples`.
"""

from __future__ import annotations

import numpy as np
import scipy.stats
from harness import Flags, Results, timed

from dyneval.evaluation.bootstrap import ClusterBootstrap
from dyneval.evaluation.correlation import agreement


def main() -> None:
    """Print a row for each number of images."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("--images", type=int, nargs="+", default=[2000, 9600], smoke=[60])
    flags.add_argument("--per-prompt", type=int, default=6)
    flags.add_argument("--resamples", type=int, default=1000, smoke=20)
    flags.add_argument("--baseline-resamples", type=int, default=4, smoke=1)
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table(
        {
            "images": "",
            "resamples": "",
            "written out s": ".0f",
            "weighted s": ".2f",
            "times": ".0f",
            "same SRCC, PLCC, KRCC": "",
        }
    )
    for images in arguments.images:
        generator = np.random.default_rng(0)
        # Few different values, as means of ratings have: ties cost KRCC and pairwise accuracy their time.
        ratings = np.round(generator.normal(3, 1, images) * 3) / 3
        scores = np.round((ratings + generator.normal(0, 1, images)) * 20) / 20
        prompts = [f"p{number // arguments.per_prompt}" for number in range(images)]
        found = agreement(scores, ratings, prompts, resamples=arguments.resamples)
        threshold = found.tie_threshold or 0

        slow, fast = [], []
        share = arguments.resamples / arguments.baseline_resamples
        # In turn, so that other work on the machine meets both alike.
        for _ in range(arguments.repeat):
            drawn = ClusterBootstrap(prompts, arguments.baseline_resamples, 0)
            with timed() as written_out:
                for counts in drawn.counts[1:]:
                    rows = np.repeat(np.arange(images), counts[drawn.codes])
                    statistics(scores[rows], ratings[rows], threshold)
            slow.append(written_out.wall * share)
            with timed() as weighted:
                agreement(scores, ratings, prompts, resamples=arguments.resamples)
            fast.append(weighted.wall)
        same = np.allclose(
            [found.srcc.value, found.plcc.value, found.krcc.value], statistics(scores, ratings, threshold)[:3]
        )
        times = [one / other for one, other in zip(slow, fast, strict=True)]
        results.row(images, arguments.resamples, slow, fast, times, bool(same))


def statistics(scores: np.ndarray, ratings: np.ndarray, threshold: float) -> tuple[float, float, float, float]:
    """SRCC, PLCC, KRCC and pairwise accuracy of (images,) arrays, each in the plain way."""
    right = pairs = 0
    # One image against all later ones: the whole matrix of pairs would take 0.7 GB at 9,600 images.
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
