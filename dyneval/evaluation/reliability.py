"""How reliable is the judge itself? Its scores of the same pairs in two runs are compared.

The runs may be repetitions, two engines, or the original and altered images. The figures are those of the literature on
raters: share of equal scores, mean absolute difference, rank correlation and Krippendorff's alpha. A last one says how
often the better of two images of a prompt changes, which best-of-n sampling and preference data depend on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dyneval.errors import DataFileError, SettingError
from dyneval.evaluation.bootstrap import (
    Estimate,
    FloatArray,
    IntArray,
    drawn_counts,
    weighted_pearson,
    weighted_ranks,
)
from dyneval.evaluation.correlation import FEWEST
from dyneval.evaluation.scores import other_settings, read_records
from dyneval.evaluation.spelling import alike_prompt
from dyneval.replies import as_in_key

SCORES = ("overall", "t2ia", "iqa", "soft.overall")
"""Scores that are compared, where both runs have them."""
NEXT = 50
"""Images of a prompt that each is compared with, at most: all pairs of them where a prompt has no more than 51."""
# Scores that differ by less are equal: a mean of the same ratings in another order differs in its last bits.
_EQUAL = 1e-9


@dataclass(slots=True)
class PairScores:
    """The scores of one pair in one run: 1-5, by those names of `SCORES` that it has."""

    prompt: str
    image: str
    scores: dict[str, float]


@dataclass(slots=True)
class ScoredRun:
    """The scores of a run by pair_id, and how they were made."""

    name: str
    pairs: dict[str, PairScores] = field(default_factory=dict)
    made: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How alike two runs score the same pairs; intervals are over prompts.

    Attributes:
        first: name of the run that the other is compared with.
        second: name of the other run.
        score: which score, 1-5.
        pairs: that both scored.
        prompts: of those pairs.
        couples: how many times two images of one prompt were compared.
        equal: share of pairs with the same score.
        difference: mean absolute difference, on the scale 1-5.
        shift: mean of second minus first.
        srcc: Spearman's rank correlation of the two runs.
        alpha: Krippendorff's alpha for interval data; 1: the runs agree, 0: as chance would.
        flips: share of couples of which the other image is the better one; at a tie the first of both is.
    """

    first: str
    second: str
    score: str
    pairs: int
    prompts: int
    couples: int
    equal: Estimate
    difference: Estimate
    shift: Estimate
    srcc: Estimate
    alpha: Estimate
    flips: Estimate

    def to_dict(self) -> dict[str, object]:
        """Return the row as it is written to reliability.json."""
        names = ("equal", "difference", "shift", "srcc", "alpha", "flips")
        counts = {"pairs": self.pairs, "prompts": self.prompts, "couples": self.couples}
        estimates = {name: getattr(self, name).to_dict() for name in names}
        return {"first": self.first, "second": self.second, "score": self.score, **counts, **estimates}


def read_run(name: str, path: Path) -> ScoredRun:
    """Read a run's ScoreRecords.

    Raises:
        DataFileError: the file cannot be read, holds no scores, one pair twice, or scores that were made in two ways.
        SchemaError: a row is no ScoreRecord.
    """
    run = ScoredRun(name)
    for number, record in enumerate(read_records(path), 1):
        if record.pair_id in run.pairs:
            raise DataFileError(f"{path}:{number}: {record.pair_id} stands there before; a run scores a pair once")
        made = {"model": record.revision or record.model, "template": record.template, **dict(record.settings or {})}
        if other := other_settings(run.made, made):
            raise DataFileError(f"{path}:{number}: mixes scores of {other}; keep the runs in separate files")
        soft = {f"soft.{kind}": value for kind, value in (record.soft or {}).items()}
        scores = {"overall": record.overall, "t2ia": record.t2ia, "iqa": record.iqa, **soft}
        known = {kind: float(value) for kind, value in scores.items() if kind in SCORES and value is not None}
        run.pairs[record.pair_id] = PairScores(alike_prompt(record.prompt), record.image, known)
    if not run.pairs:
        raise DataFileError(f"{path}: holds no scores")
    return run


def other_making(first: ScoredRun, second: ScoredRun) -> list[str]:
    """What was not alike in two runs, such as "engine transformers and vllm".

    Settings that are not in the key of a score are compared, too: here they may be what the runs differ in.
    """
    a, b = (as_in_key(run.made) | run.made for run in (first, second))
    return [f"{name} {a.get(name)} and {b.get(name)}" for name in a.keys() | b.keys() if a.get(name) != b.get(name)]


def shared_pairs(first: ScoredRun, second: ScoredRun) -> list[str]:
    """The pairs that both scored, in the order of the first.

    Raises:
        SettingError: there are none, or one has another prompt in the second run.
    """
    shared = [pair_id for pair_id in first.pairs if pair_id in second.pairs]
    if not shared:
        some, other = (next(iter(run.pairs)) for run in (first, second))
        raise SettingError(
            f"{first.name} and {second.name} have no pair in common; one has pairs such as {some}, the other {other}"
        )
    for pair_id in shared:
        one, other_prompt = first.pairs[pair_id].prompt, second.pairs[pair_id].prompt
        if one != other_prompt:
            raise SettingError(
                f"{pair_id} is scored for two prompts: {one[:60]!r} in {first.name}, {other_prompt[:60]!r} in "
                f"{second.name}; the runs are not of the same pairs"
            )
    return shared


def reliability(first: ScoredRun, second: ScoredRun, *, resamples: int = 1000, seed: int = 0) -> list[Reliability]:
    """Compare two runs by every score that two pairs or more have in both; SRCC needs `FEWEST`.

    Args:
        first: what the other is compared with; shifts are second minus first.
        second: the other run, perhaps with more or fewer pairs.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Returns:
        One for each of `SCORES` that can be compared, in that order.

    Raises:
        SettingError: see `shared_pairs`.
    """
    shared = shared_pairs(first, second)
    found = []
    for score in SCORES:
        pairs = [p for p in shared if score in first.pairs[p].scores and score in second.pairs[p].scores]
        # Of a single pair no statistic but its difference says anything.
        if len(pairs) > 1:
            a, b = (np.array([run.pairs[p].scores[score] for p in pairs]) for run in (first, second))
            prompts = [first.pairs[p].prompt for p in pairs]
            found.append(Reliability(first.name, second.name, score, **_statistics(a, b, prompts, resamples, seed)))
    return found


def _statistics(a: FloatArray, b: FloatArray, prompts: Sequence[str], resamples: int, seed: int) -> Mapping[str, Any]:
    _, codes = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)
    count = int(codes.max()) + 1
    one, other = (np.concatenate(side) for side in zip(*_couples(codes), strict=True))
    flipped = (a[one] >= a[other]) != (b[one] >= b[other])
    apart = b - a
    # All statistics but the rank correlation are ratios of sums over pairs: summed by prompt once, a resample weighs
    # the sums of prompts and looks at no pair again.
    of_pairs = (np.ones(len(a)), np.abs(apart) < _EQUAL, np.abs(apart), apart, apart**2, a + b, a**2 + b**2)
    by_prompt = [np.bincount(codes, values, count) for values in of_pairs]
    by_prompt += [np.bincount(codes[one], values, count) for values in (np.ones(len(one)), flipped)]
    sums, correlations = [], []
    for block in drawn_counts(count, resamples, seed, len(a)):
        sums.append(block @ np.stack(by_prompt, axis=1))
        weights = block[:, codes].astype(np.float64)
        correlations.append(weighted_pearson(weights, weighted_ranks(weights, a), weighted_ranks(weights, b)))
    number, equal, absolute, shift, squares, total, total_squares, couples, flips = np.concatenate(sums).T
    with np.errstate(invalid="ignore", divide="ignore"):
        # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": 1 - observed / expected squared difference,
        # the expected one over all pairs of the 2n scores.
        expected = 2 * (2 * number * total_squares - total**2) / (2 * number * (2 * number - 1))
        alpha = np.where(expected > 1e-12, 1 - squares / number / expected, np.nan)
        shares = {"equal": equal / number, "difference": absolute / number, "shift": shift / number}
        flip_rate = flips / couples
    return {
        "pairs": len(a),
        "prompts": count,
        "couples": len(one),
        **{name: Estimate.from_resamples(values, count) for name, values in shares.items()},
        "srcc": Estimate.from_resamples(np.concatenate(correlations), count, "a run gives all pairs the same score")
        if len(a) >= FEWEST
        else Estimate(None, reason=f"needs at least {FEWEST} pairs"),
        "alpha": Estimate.from_resamples(alpha, count, "both runs give all pairs the same score"),
        "flips": Estimate.from_resamples(flip_rate, count, "no prompt has two images"),
    }


def _couples(codes: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Every two images of a prompt, each with the `NEXT` that come after it."""
    order = np.argsort(codes, kind="stable")
    # First an empty one: where no prompt has two images there is still something to concatenate.
    yield order[:0], order[:0]
    for apart in range(1, NEXT + 1):
        same = codes[order[:-apart]] == codes[order[apart:]]
        if not same.any():
            return
        yield order[:-apart][same], order[apart:][same]


def largest_differences(first: ScoredRun, second: ScoredRun, score: str, most: int) -> list[str]:
    """The pairs whose score differs most between two runs, the largest difference first.

    Args:
        first: one run.
        second: the other run.
        score: one of `SCORES`; pairs that lack it in a run are left out.
        most: how many pair_ids are returned, at most; pairs whose scores are equal are left out.

    Raises:
        SettingError: see `shared_pairs`.
    """
    apart = {
        pair_id: abs(
            first.pairs[pair_id].scores.get(score, math.nan) - second.pairs[pair_id].scores.get(score, math.nan)
        )
        for pair_id in shared_pairs(first, second)
    }
    return sorted((p for p, value in apart.items() if value > _EQUAL), key=lambda p: (-apart[p], p))[:most]
