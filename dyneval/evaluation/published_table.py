"""A table of published scores as a leaderboard: one row a T2I model, an overall score, a column a sub-category.

This shows a board that somebody else has published, without its images: it has no intervals and no counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError
from dyneval.evaluation import published
from dyneval.evaluation.benchmarks.base import RatingError, numbers, refuse_duplicates
from dyneval.evaluation.bootstrap import Estimate
from dyneval.evaluation.leaderboard import Board, Cell, ModelRow, group_by_dimension, rank
from dyneval.files import tables

OVERALL = ("dyneval_score", "overall", "normalised", "score")
"""Names of the column with the overall score; the first that is there is taken."""
_NOT_SCORES = ("model", "tier", "year")


def is_published_table(path: Path) -> bool:
    """True for a CSV, TSV or XLSX file, which scores.jsonl never is."""
    return path.suffix.lower() in (".csv", ".tsv", ".xlsx", ".xlsm")


def read_board(path: Path) -> Board:
    """Read a table with the columns `model`, one of `OVERALL`, perhaps `tier` and `year`, and sub-categories.

    A column is on the scale 0-1 when none of its values is above 1, else on 1-5; one that holds both is refused.

    Raises:
        DataFileError: the table lacks a column or cannot be read.
        RatingError: a model stands twice, or a column mixes scales.
    """
    rows = list(tables.rows(path))
    overall = next((name for name in OVERALL if rows and name in rows[0]), None)
    if not rows or "model" not in rows[0] or overall is None:
        raise DataFileError(f"{path}: expected a column model and one of {', '.join(OVERALL)}")
    refuse_duplicates(str(path), Counter(str(row["model"]) for row in rows))
    columns = {name: _column(path, rows, name) for name in rows[0] if name not in (*_NOT_SCORES, *OVERALL)}
    totals = _column(path, rows, overall)
    dimensions = group_by_dimension(columns)
    empty = Estimate(None, reason="not published")
    models = []
    for number, (row, total, *values) in enumerate(zip(rows, totals, *columns.values(), strict=True), 1):
        cells = dict(zip(columns, (value if math.isfinite(value) else None for value in values), strict=True))
        paper = published.find_model(str(row["model"]))
        tier, year = (tables.cell(row, name, tables.whole_of, f"{path}: row {number}") for name in ("tier", "year"))
        means = {}
        for dimension, names in dimensions.items():
            # Each sub-category counts alike, as in `leaderboard`; one without a score counts for nothing.
            known = [value for value in map(cells.get, names) if value is not None]
            means[dimension] = Cell(sum(known) / len(known) if known else None, 0)
        models.append(
            ModelRow(
                model=str(row["model"]),
                tier=tier or (paper.tier if paper else None),
                year=year or (paper.year if paper else None),
                images=0,
                missing=0,
                scores={"overall": Estimate(total) if math.isfinite(total) else empty, "t2ia": empty, "iqa": empty},
                categories={name: Cell(value, 0) for name, value in cells.items()},
                dimensions=means,
            )
        )
    kept = [row for row in models if row.scores["overall"].value is not None]
    board = Board(rank(kept), dimensions, f"published scores ({path.name})", 0)
    board.notes = [f"{row.model}: no overall score, left out" for row in models if row not in kept]
    gaps = sum(cell.value is None for row in kept for cell in row.categories.values())
    board.notes += [f"{gaps} cells of model and sub-category are empty"] if gaps else []
    return board


def _column(path: Path, rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """One column on the scale 1-5, NaN where a cell is empty."""
    try:
        values = [numbers(row[name])[0] for row in rows]
    except TypeError as error:
        raise DataFileError(f"{path}: column {name}: {error}") from error
    finite = [value for value in values if math.isfinite(value)]
    top = max(finite, default=1)
    # A 0.9 in a column of 1-5 is a normalised score by mistake, and would rank its model last.
    for row, value in zip(rows, values, strict=True):
        if value < 0 or value > 5 or (top > 1 and value < 1):
            raise RatingError(
                f"{path}: column {name} mixes scales: {value:g} for {row['model']} beside values up to {top:g}; "
                "a column is on 0-1 or on 1-5"
            )
    return [1 + 4 * value for value in values] if top <= 1 else values
