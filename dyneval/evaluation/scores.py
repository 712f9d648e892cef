"""An evaluator's scores, from scores.jsonl or from anybody's table, and how they meet the images that were rated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError
from dyneval.evaluation.benchmarks.base import RatedImage, RatingError, numbers, refuse_duplicates
from dyneval.evaluation.matching import Matcher
from dyneval.files.tables import cell, rows, text_of
from dyneval.records import ScoreRecord

FIELDS = ("overall", "t2ia", "iqa", "soft.overall", "soft.t2ia", "soft.iqa")
"""What a ScoreRecord can be judged by."""
ID_COLUMNS = ("pair_id", "item_id", "id")
IMAGE_COLUMNS = ("image", "image_path", "img_path", "file_name")


@dataclass(slots=True)
class ScoreTable:
    """The scores of one evaluator: `by_id` where rows have ids, else `by_image`.

    `image_of` has the image that a row with this id names as well.
    """

    name: str
    by_id: dict[str, float] = field(default_factory=dict)
    by_image: dict[str, float] = field(default_factory=dict)
    image_of: dict[str, str] = field(default_factory=dict)


def read_scores(path: Path, score: str = "overall", name: str | None = None) -> ScoreTable:
    """Read an evaluator's scores.

    Args:
        path: a JSONL file of ScoreRecords, or a CSV, JSONL, JSON or Parquet table with an id column (`ID_COLUMNS`) or
            an image column (`IMAGE_COLUMNS`) and a column called `score` or as the argument `score` says.
        score: one of `FIELDS`, or the name of a table's column.
        name: how the evaluator is called; the file's stem where it is not given.

    Raises:
        DataFileError: the file cannot be read, or holds scores of more than one evaluator.
        RatingError: an id, or an image without an id, stands twice.
    """
    table = ScoreTable(name or path.stem)
    ids, images = Counter[str](), Counter[str]()
    kinds: dict[str, str] = {}
    for number, row in enumerate(rows(path), 1):
        value = _score(path, number, row, score)
        key, image = _names(path, number, row)
        if key is None:
            images[image] += 1
            table.by_image[image] = value
        else:
            ids[key] += 1
            table.by_id[key] = value
            if image:
                table.image_of[key] = image
        _refuse_mixture(path, row, kinds)
    if not ids and not images:
        raise DataFileError(f"{path}: holds no scores")
    refuse_duplicates(str(path), ids)
    refuse_duplicates(str(path), images)
    return table


def align(items: Sequence[RatedImage], table: ScoreTable) -> list[float]:
    """Return the score of each rated image, NaN where the evaluator gave none.

    A row belongs to an image when its id is the image's, or when its path ends in the image's.

    Raises:
        RatingError: two rows belong to one image, an id and a path contradict each other, or a path fits two images.
    """
    matcher = Matcher(items)
    found: dict[str, float] = {}
    named: list[tuple[str | None, str | None, float]] = [
        *((key, table.image_of.get(key), value) for key, value in table.by_id.items()),
        *((None, image, value) for image, value in table.by_image.items()),
    ]
    for key, image, value in named:
        try:
            item = matcher.find(key, image)
        except RatingError as error:
            raise RatingError(f"{table.name}: {error}") from error
        if item is not None and item.item_id in found:
            raise RatingError(
                f"{table.name}: two scores belong to the image {item.image}; give them the benchmark's ids"
            )
        if item is not None:
            found[item.item_id] = value
    return [found.get(item.item_id, math.nan) for item in items]


def is_record(row: dict[str, Any]) -> bool:
    """True for a row of scores.jsonl."""
    return {"pair_id", "normalised", "template"} <= row.keys()


def read_records(path: Path) -> Iterator[ScoreRecord]:
    """Yield checked ScoreRecords. Raises SchemaError or DataFileError naming file and row."""
    for number, row in enumerate(rows(path), 1):
        yield ScoreRecord.from_dict(row, f"{path}:{number}")


def _score(path: Path, number: int, row: dict[str, Any], score: str) -> float:
    if is_record(row) and score in FIELDS:
        record = ScoreRecord.from_dict(row, f"{path}:{number}")
        kind, _, name = score.rpartition(".")
        of_kind = record.soft or {} if kind else record.scores
        value = of_kind.get(name)  # type: ignore[call-overload]
        if value is None:
            raise DataFileError(f"{path}:{number}: {record.pair_id} has no {score}; choose another field")
        return float(value)
    column = "score" if score in FIELDS and score not in row else score
    if column not in row:
        raise DataFileError(f"{path}: row {number} has no column 'score' or {score!r}, only {', '.join(row)}")
    try:
        return numbers(row[column])[0]
    except (TypeError, IndexError) as error:
        raise DataFileError(f"{path}: row {number}: {column}: {error}") from error


def _names(path: Path, number: int, row: dict[str, Any]) -> tuple[str | None, str]:
    """The id of a row, if any, and the image that it names, empty where it has an id alone."""

    def first(columns: Sequence[str]) -> str | None:
        found = (cell(row, column, text_of, f"{path}: row {number}") for column in columns)
        return next((name for name in found if name is not None), None)

    key, image = first(ID_COLUMNS), first(IMAGE_COLUMNS)
    if key is None and image is None:
        expected = ", ".join((*ID_COLUMNS, *IMAGE_COLUMNS))
        raise DataFileError(f"{path}: row {number} names no image; expected one of the columns {expected}")
    return key, image or ""


def _refuse_mixture(path: Path, row: dict[str, Any], kinds: dict[str, str]) -> None:
    """One file holds one evaluator's scores: scores of two, or of one under two settings, do not compare."""
    if not is_record(row):
        return
    for key in ("model", "template"):
        # One student may stand in two folders: what its weights are counts more than its name.
        found = str((row.get("revision") if key == "model" else None) or row.get(key))
        if kinds.setdefault(key, found) != found:
            raise DataFileError(f"{path}: mixes scores of {key} {kinds[key]} and {found}; keep them in separate files")


def whole_number(path: Path, row: Mapping[str, Any], name: str) -> int | None:
    """A whole number in a table's row, None where the cell is empty. Raises DataFileError."""
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise DataFileError(f"{path}: {name} {str(value)[:40]!r}: expected a whole number") from None
