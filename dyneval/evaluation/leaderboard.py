"""A leaderboard over T2I models: means with intervals, ranks with ranges, sub-categories, dimensions, tiers, gaps.

`build_board` turns scored images into a `Board`; tables, charts and the page are made of that and compute nothing more.
Prompts are drawn as a whole and for all models alike, so a hard prompt that is drawn twice counts twice for every
model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dyneval.evaluation import published
from dyneval.evaluation.bootstrap import ONE_PROMPT, Estimate, FloatArray, IntArray, drawn_counts
from dyneval.evaluation.head_to_head import Duel, duels
from dyneval.evaluation.scored import ScoredSet
from dyneval.records import normalised_score

if TYPE_CHECKING:
    from scipy.sparse import csr_array

OTHER = "Other"
"""Dimension of sub-categories that the paper does not name."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean score (1-5) of a model in one category; None where none of its `images` has it."""

    value: float | None
    images: int
    low: float | None = None
    high: float | None = None


@dataclass(slots=True)
class ModelRow:
    """One T2I model on the board.

    Attributes:
        model: its name on the page.
        tier: 1 (strongest) to 3, where it is known.
        year: in which it became public, where it is known.
        images: with a score.
        missing: expected images without one.
        scores: mean of each score, 1-5.
        categories: by sub-category, 1-5.
        dimensions: by semantic dimension, 1-5.
        rank: from 1, equal scores share one.
        rank_low: the best rank in 95 % of the resamples.
        rank_high: the worst one.
        ranked_by: the score that gives the rank and the means of categories and dimensions.
    """

    model: str
    tier: int | None
    year: int | None
    images: int
    missing: int
    scores: dict[str, Estimate]
    categories: dict[str, Cell]
    dimensions: dict[str, Cell]
    rank: int = 0
    rank_low: int | None = None
    rank_high: int | None = None
    ranked_by: str = "overall"

    @property
    def ranked(self) -> Estimate:
        """Mean of the score that ranks, 1-5."""
        return self.scores[self.ranked_by]

    @property
    def mean(self) -> float:
        """The same as a number without its interval; NaN where there is none."""
        return float("nan") if self.ranked.value is None else self.ranked.value

    @property
    def normalised(self) -> float:
        """The same, 0-1, as the paper prints it."""
        return normalised_score(self.mean)


@dataclass(frozen=True, slots=True)
class TierRow:
    """Mean and sample standard deviation of the normalised scores of a tier's models; None with a single model."""

    tier: int
    models: int
    mean: float
    deviation: float | None


@dataclass(slots=True)
class Board:
    """The whole leaderboard.

    Attributes:
        rows: the models, best first.
        dimensions: those that occur, each with its sub-categories in the paper's order.
        evaluator: who scored, or where the scores come from.
        prompts: how many; 0 for a table of published scores.
        notes: gaps, one sentence each.
        ranked_by: the score that ranks.
        ranked_resamples: its means in the data (first row) and in every resample, shape (1 + resamples, models).
        duels: every two models that share a prompt, the better one first.
    """

    rows: list[ModelRow]
    dimensions: dict[str, list[str]]
    evaluator: str
    prompts: int
    notes: list[str] = field(default_factory=list)
    ranked_by: str = "overall"
    ranked_resamples: FloatArray | None = None
    duels: list[Duel] = field(default_factory=list)

    @property
    def label(self) -> str:
        """What the score that ranks is called on the page."""
        return "Overall" if self.ranked_by == "overall" else self.ranked_by

    @property
    def tiers(self) -> list[TierRow]:
        """Averages over the models of each tier, as the paper prints them."""
        found = []
        for tier in sorted({row.tier for row in self.rows if row.tier is not None}):
            values = [row.normalised for row in self.rows if row.tier == tier]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found.append(TierRow(tier, len(values), float(np.mean(values)), deviation))
        return found

    def to_dict(self) -> dict[str, object]:
        """Return the board as it is written to leaderboard.json."""
        return {
            "evaluator": self.evaluator,
            "ranked_by": self.ranked_by,
            "prompts": self.prompts,
            "tiers": [
                {"tier": t.tier, "models": t.models, "mean": t.mean, "standard_deviation": t.deviation}
                for t in self.tiers
            ],
            "dimensions": self.dimensions,
            "models": [
                {
                    "rank": row.rank,
                    "rank_range": [row.rank_low, row.rank_high] if row.rank_low else None,
                    "model": row.model,
                    "tier": row.tier,
                    "year": row.year,
                    "images": row.images,
                    "missing": row.missing,
                    "normalised": row.normalised,
                    **{name: score.to_dict() for name, score in row.scores.items()},
                    "dimensions": {name: cell.value for name, cell in row.dimensions.items()},
                    "categories": {name: [cell.value, cell.images] for name, cell in row.categories.items()},
                }
                for row in self.rows
            ],
            "head_to_head": [duel.to_dict() for duel in self.duels],
            "notes": self.notes,
        }


def build_board(scored: ScoredSet, *, resamples: int = 1000, seed: int = 0) -> Board:
    """Average the scored images by model; prompts are drawn as a whole, for all models alike.

    Args:
        scored: from `dyneval.evaluation.scored.read_scored`.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.
    """
    grid = _Grid(scored)
    scores, by_category = grid.means(resamples, seed)
    categories = {name: (means, *grid.counts([name])) for name, means in by_category.items()}
    dimensions = group_by_dimension(by_category)
    by_dimension = {
        dimension: (_mean_of_means([by_category[name] for name in names]), *grid.counts(names))
        for dimension, names in dimensions.items()
    }
    # One prompt is drawn in every resample: all of them would give one rank and one proposal of tiers, as if sure.
    resampled = scores[scored.ranked_by] if grid.prompts > 1 else scores[scored.ranked_by][:1]
    ranges = _rank_ranges(resampled)
    images, prompts = grid.counts()
    rows = []
    for number, name in enumerate(scored.model_of.things):
        info, own = scored.models[name], int(images[number])
        low, high = ranges[number] if ranges else (None, None)
        rows.append(
            ModelRow(
                model=info.name,
                tier=info.tier,
                year=info.year,
                images=own,
                # A model may have several images of a prompt, and then more than are expected.
                missing=max(0, scored.expected.get(name, own) - own),
                scores={
                    k: Estimate.from_resamples(means[:, number], int(prompts[number])) for k, means in scores.items()
                },
                categories={key: _cell(number, *found) for key, found in categories.items()},
                dimensions={key: _cell(number, *found) for key, found in by_dimension.items()},
                rank_low=low,
                rank_high=high,
                ranked_by=scored.ranked_by,
            )
        )
    # By identity: `rank` sorts the rows, and the columns of the resamples have to follow them.
    column = {id(row): number for number, row in enumerate(rows)}
    ranked = rank(rows)
    board = Board(ranked, dimensions, scored.evaluator, grid.prompts, ranked_by=scored.ranked_by)
    board.ranked_resamples = resampled[:, [column[id(row)] for row in ranked]]
    board.duels = duels(scored, [row.model for row in ranked], resamples=resamples, seed=seed)
    board.notes = [f"{row.model}: no score for {row.missing} images" for row in ranked if row.missing]
    if empty := sum(cell.value is None for row in ranked for cell in row.categories.values()):
        board.notes.append(f"{empty} cells of model and sub-category hold no image")
    alone = [row.model for row in ranked if row.ranked.reason == ONE_PROMPT]
    board.notes += [ONE_PROMPT] if alone and grid.prompts == 1 else [f"{model}: {ONE_PROMPT}" for model in alone]
    return board


def rank(rows: list[ModelRow]) -> list[ModelRow]:
    """Sort rows best first and number them; models with equal scores share a rank."""
    rows = sorted(rows, key=lambda row: (-row.mean, row.model))
    for place, row in enumerate(rows, 1):
        before = rows[place - 2]
        row.rank = before.rank if place > 1 and before.mean == row.mean else place
    return rows


def group_by_dimension(categories: Iterable[str]) -> dict[str, list[str]]:
    """Sort sub-categories into the nine dimensions, in the paper's order; unknown ones come under "Other"."""
    present = set(categories)
    grouped = {
        dimension: [name for name in names if name in present] for dimension, names in published.dimensions().items()
    }
    unknown = sorted(present - {name for names in grouped.values() for name in names})
    return {dimension: names for dimension, names in (grouped | {OTHER: unknown}).items() if names}


class _Grid:
    """Sums over the images of each model and prompt, weighted by how often a resample drew the prompt.

    The sums are sparse: a million images have as many, while 36 models and a million prompts would have 36 million.
    """

    def __init__(self, scored: ScoredSet) -> None:
        self.prompts, self.models = len(scored.prompts.things), len(scored.model_of.things)
        self._prompt_of, self._model_of = scored.prompts.codes, scored.model_of.codes
        # The score that ranks comes first: `means` computes only that one by category.
        parts = {name: np.frombuffer(scored.scores[name]) for name in ("t2ia", "iqa")}
        self._scores = {scored.ranked_by: np.frombuffer(scored.ranked)} | parts
        sets, self._set_of = scored.categories.things, scored.categories.codes
        self.categories = list(dict.fromkeys(name for names in sets for name in names))
        self._has = {name: np.array([name in names for names in sets]) for name in self.categories}
        self._numbers: dict[tuple[str, ...] | None, csr_array] = {}

    def counts(self, names: Sequence[str] | None = None) -> tuple[IntArray, IntArray]:
        """Images of each model in any of these categories (None: in all), and their prompts; both shape (models,)."""
        images = self._sums(None, None if names is None else tuple(names))
        return np.asarray(images.sum(axis=1)).astype(np.int64), np.diff(images.indptr)

    def means(self, resamples: int, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Each model's means of the scores, and of the ranked one in each category; NaN: none.

        Args:
            resamples: of the bootstrap over prompts.
            seed: of the bootstrap.
        """
        names = tuple(self._scores)
        groups = [(names, None), *((names[:1], (name,)) for name in self.categories)]
        sums = [
            ([self._sums(self._scores[name], chosen) for name in wanted], self._sums(None, chosen))
            for wanted, chosen in groups
        ]
        blocks: list[list[FloatArray]] = []
        for block in drawn_counts(self.prompts, resamples, seed):
            # scipy's product of a sparse and a dense array copies an operand that is not contiguous, each time.
            weights = np.ascontiguousarray(block.T, dtype=np.float64)
            blocks.append([])
            for totals, number in sums:
                images = number @ weights
                with np.errstate(invalid="ignore"):
                    blocks[-1] += [total @ weights / images for total in totals]
        means = [np.concatenate(of_one, axis=1).T for of_one in zip(*blocks, strict=True)]
        first = len(names)
        return dict(zip(names, means[:first], strict=True)), dict(zip(self.categories, means[first:], strict=True))

    def _sums(self, values: FloatArray | None, names: tuple[str, ...] | None) -> csr_array:
        """Sum of `values` (None: the number) over the images of each model and prompt in any of the categories."""
        from scipy.sparse import csr_array

        # The means and the counts need the same numbers.
        if values is None and names in self._numbers:
            return self._numbers[names]
        if names is None:
            chosen = np.ones(len(self._model_of), np.bool_)
        else:
            chosen = np.any([self._has[name] for name in names], axis=0)[self._set_of]
        where = self._model_of[chosen], self._prompt_of[chosen]
        summed = np.ones(len(where[0])) if values is None else values[chosen]
        # Entries of one cell, images of one model and prompt, are added.
        found = csr_array((summed, where), shape=(self.models, self.prompts))
        if values is None:
            self._numbers[names] = found
        return found


def _rank_ranges(overall: FloatArray) -> list[tuple[int, int]] | None:
    """Ranks that each model takes in 95 % of the resamples."""
    if len(overall) < 2:
        return None
    from scipy.stats import rankdata

    # A model none of whose prompts was drawn has no mean, and is last in that resample. Equal means share the better
    # rank, as in `rank`.
    ranks = rankdata(-np.nan_to_num(overall[1:], nan=-np.inf), axis=1, method="min")
    # "nearest": a rank is a whole number.
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def _cell(number: int, means: FloatArray, images: IntArray, prompts: IntArray) -> Cell:
    """The cell of the model with this number."""
    found = Estimate.from_resamples(means[:, number], int(prompts[number]))
    return Cell(found.value, int(images[number]), found.low, found.high)


def _mean_of_means(columns: Sequence[FloatArray]) -> FloatArray:
    """The mean of a dimension's sub-category means, gaps left out, so that each sub-category counts alike."""
    stacked = np.stack(columns)
    number = np.isfinite(stacked).sum(axis=0)
    # Where all are gaps the number is NaN, and so is the mean; 0 would warn at every such model.
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(stacked, axis=0) / np.where(number, number, np.nan))
