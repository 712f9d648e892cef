"""Evaluators beside people who said which of several images of one prompt they like better.

Accuracy is the share of pairs that an evaluator orders as people did, over pairs on which people took a side, first
within each prompt and then averaged over prompts, as in ImageReward and HPS v2. Equal scores get half a point: in files
of pairs the winner always stands first, and an evaluator that gives one score to all must come out at .5. Kendall's
tau-b is taken within each group and averaged as well. Where T2I models are known, a Bradley-Terry model (1952) of
people's choices and one of the evaluator's give each a strength.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from dyneval.evaluation.benchmarks.base import RatedImage, RatedSet
from dyneval.evaluation.bootstrap import Estimate, FloatArray, mean_resamples
from dyneval.evaluation.correlation import FEWEST, spearman
from dyneval.evaluation.rejects import UnusableRow
from dyneval.evaluation.scores import ScoreTable, align
from dyneval.evaluation.significance import two_sided

PUBLISHED = {
    "imagerewarddb": {"ImageReward": 0.651, "PickScore": 0.629, "HPS v2.1": 0.668, "one person": 0.653},
    "hpdv2": {"ImageReward": 0.740, "PickScore": 0.798, "HPS v2.1": 0.841, "one person": 0.781},
}
"""Accuracy by benchmark and evaluator, from the README of https://github.com/tgxs002/HPSv2."""
# Of the MM algorithm; each step raises the likelihood.
_STEPS = 200


@dataclass(frozen=True, slots=True)
class PreferenceResult:
    """The figures of one evaluator on preferences.

    Attributes:
        name: of the evaluator.
        missing: images of the set that it did not score.
        prompts: how many have a pair that people and evaluator judged.
        pairs: of those prompts, with an order by people.
        accuracy: mean over prompts of the share of pairs ordered as by people, 0-1.
        kendall: mean over prompts of tau-b, where both sides have an order.
        strengths: of each T2I model, log strength by people and by the evaluator; the means are 0.
        models: Spearman's correlation of the two.
    """

    name: str
    missing: int
    prompts: int
    pairs: int
    accuracy: Estimate
    kendall: Estimate
    strengths: dict[str, tuple[float, float]]
    models: float | None


@dataclass(frozen=True, slots=True)
class PreferenceDifference:
    """Accuracy of `first` minus that of `second`, on the prompts that both judged; the p-value is two-sided."""

    first: str
    second: str
    prompts: int
    difference: Estimate
    p_bootstrap: float | None


@dataclass(slots=True)
class PreferenceComparison:
    """Several evaluators on the same groups of images."""

    rated: RatedSet
    evaluators: list[PreferenceResult] = field(default_factory=list)
    differences: list[PreferenceDifference] = field(default_factory=list)
    rejects: list[UnusableRow] = field(default_factory=list)
    repeated: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return everything but the images, as it is written to agreement.json."""
        return {
            **self.rated.to_dict(),
            "rejected": len(self.rejects),
            "repeated": self.repeated,
            "evaluators": [asdict(one) for one in self.evaluators],
            "differences": [asdict(one) for one in self.differences],
            "published": PUBLISHED.get(self.rated.benchmark.name, {}),
        }


@dataclass(frozen=True, slots=True)
class _PromptResults:
    """What an evaluator did in each prompt.

    `accuracy`: share of pairs ordered as by people; `pairs`: their number; `kendall`: tau-b, where it is defined; all
    by prompt. `duels`: winner and loser for people, two T2I models, and the points that the evaluator gives the winner.
    """

    accuracy: dict[str, float]
    pairs: dict[str, int]
    kendall: dict[str, float]
    duels: list[tuple[str, str, float]]


def compare_preferences(
    rated: RatedSet, tables: Sequence[ScoreTable], *, resamples: int = 1000, seed: int = 0
) -> PreferenceComparison:
    """Hold evaluators against people's choices.

    Args:
        rated: images with a `group`, a higher rating being better within it.
        tables: one an evaluator.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.

    Raises:
        RatingError: it is not clear to which image a score belongs.
    """
    found = PreferenceComparison(
        rated,
        rejects=[*rated.rejects, *(reject for table in tables for reject in table.rejects)],
        repeated=rated.repeated + sum(table.repeated for table in tables),
    )
    judged: dict[str, _PromptResults] = {}
    for table in tables:
        scores = align(rated.items, table)
        judged[table.name] = one = _judge(rated.items, scores)
        missing = sum(map(math.isnan, scores))
        found.evaluators.append(_result(table.name, missing, one, resamples, seed))
    for first, second in itertools.combinations(judged, 2):
        a, b = judged[first].accuracy, judged[second].accuracy
        both = sorted(a.keys() & b.keys())
        difference, drawn = _over_prompts({key: a[key] - b[key] for key in both}, resamples, seed)
        p = two_sided(drawn[1:], len(both))
        found.differences.append(PreferenceDifference(first, second, len(both), difference, p))
    return found


def _judge(items: Sequence[RatedImage], scores: Sequence[float]) -> _PromptResults:
    from scipy.stats import kendalltau

    groups: dict[str, list[tuple[RatedImage, float]]] = defaultdict(list)
    for item, score in zip(items, scores, strict=True):
        if item.group is not None and math.isfinite(score) and math.isfinite(item.rating):
            groups[item.group].append((item, score))
    points: dict[str, list[float]] = defaultdict(list)
    kendalls: dict[str, list[float]] = defaultdict(list)
    duels = []
    for group in groups.values():
        prompt = group[0][0].cluster
        for one, other in itertools.combinations(group, 2):
            if one[0].rating == other[0].rating:
                continue
            better, worse = (one, other) if one[0].rating > other[0].rating else (other, one)
            point = 0.5 if better[1] == worse[1] else float(better[1] > worse[1])
            points[prompt].append(point)
            if better[0].model and worse[0].model and better[0].model != worse[0].model:
                duels.append((better[0].model, worse[0].model, point))
        theirs, people = [score for _, score in group], [item.rating for item, _ in group]
        # Tau-b is not defined where one side has no order.
        if len(set(theirs)) > 1 and len(set(people)) > 1:
            kendalls[prompt].append(float(kendalltau(theirs, people).statistic))
    return _PromptResults(
        {prompt: float(np.mean(values)) for prompt, values in points.items()},
        {prompt: len(values) for prompt, values in points.items()},
        {prompt: float(np.mean(values)) for prompt, values in kendalls.items()},
        duels,
    )


def _result(name: str, missing: int, judged: _PromptResults, resamples: int, seed: int) -> PreferenceResult:
    strengths = _strengths(judged.duels)
    people, theirs = zip(*strengths.values(), strict=True) if strengths else ((), ())
    # Two strengths always correlate perfectly.
    models = spearman(people, theirs) if len(strengths) >= FEWEST else math.nan
    return PreferenceResult(
        name,
        missing,
        len(judged.accuracy),
        sum(judged.pairs.values()),
        _over_prompts(judged.accuracy, resamples, seed)[0],
        _over_prompts(judged.kendall, resamples, seed)[0],
        strengths,
        None if math.isnan(models) else models,
    )


def _over_prompts(values: dict[str, float], resamples: int, seed: int) -> tuple[Estimate, FloatArray]:
    """The mean over prompts, and its values in the data and in every resample, shape (1 + resamples,)."""
    # Sorted, so that two evaluators of the same prompts draw the same resamples.
    drawn = mean_resamples(np.array([values[prompt] for prompt in sorted(values)], np.float64), resamples, seed)
    reason = "no prompt has two images that people ordered and the evaluator scored"
    return Estimate.from_resamples(drawn, len(values), reason), drawn


def _strengths(duels: Sequence[tuple[str, str, float]]) -> dict[str, tuple[float, float]]:
    """Log strengths of the models by people and by the evaluator, by name, the strongest for people first."""
    names = sorted({name for winner, loser, _ in duels for name in (winner, loser)})
    place = {name: number for number, name in enumerate(names)}
    people, theirs = np.zeros((2, len(names), len(names)))
    # A tie of the evaluator is half a win for each; people have taken a side in every duel.
    for winner, loser, point in duels:
        people[place[winner], place[loser]] += 1
        theirs[place[winner], place[loser]] += point
        theirs[place[loser], place[winner]] += 1 - point
    both = dict(zip(names, zip(bradley_terry(people), bradley_terry(theirs), strict=True), strict=True))
    return dict(sorted(both.items(), key=lambda item: -item[1][0]))


def bradley_terry(wins: FloatArray) -> list[float]:
    """Log strengths s with P(i beats j) = 1 / (1 + exp(s_j - s_i)), mean 0, by Hunter's MM algorithm (2004).

    Half a win and half a loss against an average model are added to each, so that one that won or lost all of its few
    duels gets a finite strength.

    Args:
        wins: how often the model of a row won against that of a column; shape (models, models).
    """
    strength = np.ones(len(wins))
    duels = wins + wins.T
    # `1 / (strength + 1)` and `+ 0.5` are the half win and half loss against the average model, of strength 1.
    for _ in range(_STEPS):
        expected = (duels / (strength[:, None] + strength[None, :])).sum(axis=1) + 1 / (strength + 1)
        strength = (wins.sum(axis=1) + 0.5) / expected
    logs = np.log(strength)
    return [float(value) for value in logs - logs.mean()] if len(logs) else []
