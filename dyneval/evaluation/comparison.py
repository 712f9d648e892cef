"""Evaluators beside each other on one benchmark: agreement, differences, T2I models, categories, published figures.

`compare` is the whole of `dyneval benchmark` without files: it brings scores and ratings of the same images together
and computes every figure of the tables from them. Evaluators are each compared over the images that they scored, and
with each other over the images that both scored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from dyneval.errors import SettingError
from dyneval.evaluation import published
from dyneval.evaluation.benchmarks.base import RatedSet, RatingError
from dyneval.evaluation.bootstrap import Estimate
from dyneval.evaluation.calibration import LEVEL, Calibration, calibrate
from dyneval.evaluation.correlation import (
    Agreement,
    agreement,
    category_agreement,
    human_ceiling,
    system_agreement,
)
from dyneval.evaluation.rejects import UnusableRow
from dyneval.evaluation.scores import ScoreTable, align, of_other_prompts
from dyneval.evaluation.significance import Difference, srcc_difference


@dataclass(frozen=True, slots=True)
class EvaluatorResult:
    """The figures of one evaluator.

    Attributes:
        name: of the evaluator.
        scores: in the order of the rated images, NaN where it gave none.
        agreement: with the raters, image by image.
        system: "srcc" and "plcc" over the means of T2I models.
        categories: agreement within each category.
        calibration: from its scores to ratings; None with too few images.
        folds: agreement within each fold, where the images have folds.
        of_other_prompts: ids of rated images that it scored for another prompt.
    """

    name: str
    scores: list[float]
    agreement: Agreement
    system: dict[str, Estimate]
    categories: dict[str, Agreement]
    calibration: Calibration | None = None
    folds: dict[str, Agreement] = field(default_factory=dict)
    of_other_prompts: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Rated images that the evaluator did not score."""
        return sum(math.isnan(value) for value in self.scores)


@dataclass(slots=True)
class EvaluatorComparison:
    """Several evaluators on the same rated images; `differences` for every pair of them."""

    rated: RatedSet
    evaluators: list[EvaluatorResult] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    people: Agreement | None = None
    """One rater against the mean of the others, where an image has several."""
    rejects: list[UnusableRow] = field(default_factory=list)
    """Rows of the ratings and of the evaluators' files that do not count."""
    repeated: int = 0

    @property
    def published(self) -> list[published.PublishedAgreement]:
        """Rows of the paper for this benchmark."""
        return [row for row in published.agreements() if row.benchmark == self.rated.benchmark.name]

    def to_dict(self) -> dict[str, object]:
        """Return everything but the single scores, as it is written to agreement.json."""
        return {
            **self.rated.to_dict(),
            "rejected": len(self.rejects),
            "repeated": self.repeated,
            "people": self.people.to_dict() if self.people else None,
            "evaluators": [
                {
                    "name": result.name,
                    "missing": result.missing,
                    "of_other_prompts": len(result.of_other_prompts),
                    **result.agreement.to_dict(),
                    "system": {name: found.to_dict() for name, found in result.system.items()},
                    "calibration": asdict(result.calibration) if result.calibration else None,
                    "categories": {name: found.to_dict() for name, found in result.categories.items()},
                    "folds": {name: found.to_dict() for name, found in result.folds.items()},
                }
                for result in self.evaluators
            ],
            "differences": [
                {
                    "first": found.first,
                    "second": found.second,
                    "images": found.items,
                    "srcc_difference": found.difference.to_dict(),
                    "p_bootstrap": found.p_bootstrap,
                    "p_williams": found.p_williams,
                }
                for found in self.differences
            ],
            "published": [row._asdict() | {"source": published.SOURCE} for row in self.published],
        }


def compare(
    rated: RatedSet, tables: Sequence[ScoreTable], *, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> EvaluatorComparison:
    """Hold evaluators against the raters of a benchmark.

    Args:
        rated: the benchmark's images.
        tables: one an evaluator; their names must differ.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.
        level: of the interval for a new image's rating, 0-1.

    Raises:
        SettingError: two evaluators have one name, or one scores none of the images.
        RatingError: no image has a rating, or it is not clear to which image a score belongs.
    """
    refuse_same_names([table.name for table in tables])
    found = EvaluatorComparison(
        rated,
        rejects=[*rated.rejects, *(reject for table in tables for reject in table.rejects)],
        repeated=rated.repeated + sum(table.repeated for table in tables),
    )
    # The ratings of a checklist are parts of one judgment, no second opinions.
    if not rated.benchmark.fields[rated.rated].is_checklist:
        ratings, prompts = [item.ratings for item in rated.items], [item.cluster for item in rated.items]
        found.people = human_ceiling(ratings, prompts, resamples=resamples, seed=seed)
    for table in tables:
        found.evaluators.append(_evaluate(rated, table, resamples, seed, level))
    items = rated.items
    # Every two of them; their p-values are not corrected for the number of comparisons.
    for first, second in itertools.combinations(found.evaluators, 2):
        found.differences.append(
            srcc_difference(
                (first.name, first.scores),
                (second.name, second.scores),
                [item.rating for item in items],
                [item.cluster for item in items],
                resamples=resamples,
                seed=seed,
            )
        )
    return found


def refuse_same_names(names: Sequence[str]) -> None:
    """Raise SettingError where two evaluators have one name."""
    if len(set(names)) < len(names):
        raise SettingError(f"two evaluators are called {max(names, key=names.count)!r}; name them: NAME=FILE")


def _evaluate(rated: RatedSet, table: ScoreTable, resamples: int, seed: int, level: float) -> EvaluatorResult:
    items = rated.items
    if not items:
        raise RatingError(f"{rated.benchmark.title}: no image has a rating")
    scores = align(items, table)
    # Most likely a file of another benchmark; a table of dashes would not say so.
    if all(math.isnan(value) for value in scores):
        some = next(iter(table.by_id or table.by_image), "none")
        raise SettingError(
            f"{table.name}: none of its scores belongs to a rated image; the benchmark has ids such as "
            f"{items[0].item_id!r} and images such as {items[0].image!r}, the scores such as {some!r}"
        )
    ratings, prompts = [item.rating for item in items], [item.cluster for item in items]
    models = [item.model or "" for item in items]
    categories, folds = [item.categories for item in items], [(item.fold,) if item.fold else () for item in items]
    return EvaluatorResult(
        table.name,
        scores,
        agreement(scores, ratings, prompts, resamples=resamples, seed=seed),
        system_agreement(scores, ratings, models, prompts, resamples=resamples, seed=seed),
        category_agreement(scores, ratings, prompts, categories, resamples=resamples, seed=seed),
        calibrate(scores, ratings, prompts, level),
        category_agreement(scores, ratings, prompts, folds, resamples=resamples, seed=seed),
        of_other_prompts(items, table),
    )
