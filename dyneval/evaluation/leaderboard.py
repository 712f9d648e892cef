"""A leaderboard over T2I models: means with intervals, ranks with ranges, sub-categories, dimensions, tiers, gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dyneval.evaluation import published
from dyneval.evaluation.bootstrap import ClusterBootstrap, Estimate, FloatArray, IntArray
from dyneval.evaluation.correlation import as_mapping
from dyneval.evaluation.scored import ModelInfo, ScoredImage, ScoredSet
from dyneval.records import normalised_score

OTHER = "Other"
"""Dimension of sub-categories that the paper does not name."""
SCORES = ("overall", "t2ia", "iqa")


@dataclass(frozen=True, slots=True)
class Cell:
    """Mean score (1-5) of a model in one category; None where none of its `images` has it."""

    value: float | None
    images: int
    low: float | None = None
    high: float | None = None


@dataclass(slots=True)
class ModelRow:
    """One T2I model on the board; scores are 1-5, `missing` counts expected images without a score."""

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

    @property
    def overall(self) -> float:
        """Mean overall score, 1-5."""
        value = self.scores["overall"].value
        return float("nan") if value is None else value

    @property
    def normalised(self) -> float:
        """Mean overall score, 0-1, as the paper prints it."""
        return normalised_score(self.overall)


@dataclass(frozen=True, slots=True)
class TierRow:
    """Mean and sample standard deviation of the normalised scores of a tier's models; None with a single model."""

    tier: int
    models: int
    mean: float
    deviation: float | None


@dataclass(slots=True)
class Board:
    """The models, best first; `dimensions` are those that occur, each with its sub-categories in the paper's order."""

    rows: list[ModelRow]
    dimensions: dict[str, list[str]]
    evaluator: str
    prompts: int
    notes: list[str] = field(default_factory=list)
    overall_resamples: FloatArray | None = None

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
        """Return the board as it stands in leaderboard.json."""
        return {
            "evaluator": self.evaluator,
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
                    **as_mapping(row.scores),
                    "dimensions": {name: cell.value for name, cell in row.dimensions.items()},
                    "categories": {name: [cell.value, cell.images] for name, cell in row.categories.items()},
                }
                for row in self.rows
            ],
            "notes": self.notes,
        }


def build_board(scored: ScoredSet, *, resamples: int = 1000, seed: int = 0) -> Board:
    """Average the scored images by model; prompts are drawn as a whole, for all models alike.

    Args:
        scored: from `dyneval.evaluation.scored.read_scored`.
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.
    """
    names = list(scored.models)
    prompts = sorted({image.prompt for image in scored.images})
    bootstrap = ClusterBootstrap(prompts, resamples, seed)
    grid = _Grid(scored.images, names, prompts, bootstrap.counts.astype(np.float64))
    dimensions = group_by_dimension(grid.members)
    scores = {name: grid.means(np.array([getattr(image, name) for image in scored.images])) for name in SCORES}
    ranges = _rank_ranges(scores["overall"])
    overall = np.array([image.overall for image in scored.images])
    cells = {name: grid.means(overall, np.array(members)) for name, members in grid.members.items()}
    rows = [_row(number, name, scored, scores, cells, dimensions, ranges) for number, name in enumerate(names)]
    column = {id(row): number for number, row in enumerate(rows)}
    ranked = rank(rows)
    board = Board(ranked, dimensions, scored.evaluator, len(prompts))
    board.overall_resamples = scores["overall"][:, [column[id(row)] for row in ranked]]
    board.notes = _gaps(board)
    return board


def rank(rows: list[ModelRow]) -> list[ModelRow]:
    """Sort rows best first and number them; models with equal scores share a rank."""
    rows = sorted(rows, key=lambda row: (-row.overall, row.model))
    for place, row in enumerate(rows, 1):
        before = rows[place - 2]
        row.rank = before.rank if place > 1 and before.overall == row.overall else place
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
    """Sums over the images of each model and prompt, weighted by how often a resample drew the prompt."""

    def __init__(
        self, images: Sequence[ScoredImage], names: Sequence[str], prompts: Sequence[str], counts: FloatArray
    ) -> None:
        self.shape = len(names), len(prompts)
        self.counts = counts
        row = {name: number for number, name in enumerate(names)}
        column = {prompt: number for number, prompt in enumerate(prompts)}
        self.models = np.array([row[image.model] for image in images])
        self.prompts = np.array([column[image.prompt] for image in images])
        self.members: dict[str, list[int]] = {}
        for number, image in enumerate(images):
            for category in image.categories:
                self.members.setdefault(category, []).append(number)

    def means(self, values: FloatArray, chosen: IntArray | None = None) -> FloatArray:
        """Mean of `values` over the (chosen) images of each model, shape (1 + resamples, models); NaN without any."""
        images = np.arange(len(values)) if chosen is None else chosen
        sums, number = np.zeros(self.shape), np.zeros(self.shape)
        where = self.models[images], self.prompts[images]
        np.add.at(sums, where, values[images])
        np.add.at(number, where, 1)
        with np.errstate(invalid="ignore"):
            return np.asarray((self.counts @ sums.T) / (self.counts @ number.T))


def _rank_ranges(overall: FloatArray) -> list[tuple[int, int]] | None:
    """Ranks that each model takes in 95 % of the resamples."""
    if len(overall) < 2:
        return None
    from scipy.stats import rankdata

    ranks = rankdata(-np.nan_to_num(overall[1:], nan=-np.inf), axis=1, method="min")
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def _row(
    number: int,
    name: str,
    scored: ScoredSet,
    scores: Mapping[str, FloatArray],
    cells: Mapping[str, FloatArray],
    dimensions: Mapping[str, Sequence[str]],
    ranges: Sequence[tuple[int, int]] | None,
) -> ModelRow:
    info: ModelInfo = scored.models[name]
    own = [image for image in scored.images if image.model == name]
    low, high = ranges[number] if ranges else (None, None)
    return ModelRow(
        model=info.name,
        tier=info.tier,
        year=info.year,
        images=len(own),
        missing=max(0, scored.expected.get(name, len(own)) - len(own)),
        scores={key: Estimate.from_resamples(values[:, number]) for key, values in scores.items()},
        categories={
            key: _cell(values[:, number], sum(key in image.categories for image in own))
            for key, values in cells.items()
        },
        dimensions={
            dimension: _dimension([cells[key][:, number] for key in names], own, names)
            for dimension, names in dimensions.items()
        },
        rank_low=low,
        rank_high=high,
    )


def _cell(values: FloatArray, images: int) -> Cell:
    found = Estimate.from_resamples(values)
    return Cell(found.value, images, found.low, found.high)


def _dimension(columns: Sequence[FloatArray], own: Sequence[ScoredImage], names: Sequence[str]) -> Cell:
    """The mean of a dimension's sub-category means, gaps left out, so that each sub-category counts alike."""
    stacked = np.stack(columns)
    number = np.isfinite(stacked).sum(axis=0)
    with np.errstate(invalid="ignore"):
        values = np.nansum(stacked, axis=0) / np.where(number, number, np.nan)
    return _cell(values, sum(any(name in image.categories for name in names) for image in own))


def _gaps(board: Board) -> list[str]:
    notes = [f"{row.model}: no score for {row.missing} images" for row in board.rows if row.missing]
    empty = sum(cell.value is None for row in board.rows for cell in row.categories.values())
    if empty:
        notes.append(f"{empty} cells of model and sub-category hold no image")
    return notes
