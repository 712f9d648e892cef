"""An evaluator's scores, from scores.jsonl or from any table, and how they are matched with the rated images.

Everything that compares scores reads them here, so that one rule decides which columns name an image, which rows count,
and which files mix scores that do not compare.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from dyneval.errors import DataFileError, SchemaError, SettingError
from dyneval.evaluation.benchmarks.base import RatedImage, RatingError, numbers
from dyneval.evaluation.matching import match
from dyneval.evaluation.rejects import RowFilter, UnusableRow
from dyneval.evaluation.spelling import alike_id, alike_path, alike_prompt, ends_alike, name_of
from dyneval.files.delimited import as_meant
from dyneval.files.tables import kind_of, rows
from dyneval.records import ScoreRecord
from dyneval.replies import as_in_key
from dyneval.structs import Row

FIELDS = ("overall", "t2ia", "iqa", "soft.overall", "soft.t2ia", "soft.iqa")
"""What a ScoreRecord can be judged by."""
# The surest first: a column called id may be the table's own numbering.
ID_COLUMNS = ("pair_id", "item_id", "id")
IMAGE_COLUMNS = ("image", "image_path", "img_path", "file_name")


@dataclass(slots=True)
class ScoreTable:
    """The scores of one evaluator.

    Attributes:
        name: of the evaluator.
        by_id: score of each row that has an id.
        by_image: score of each other row, by the image that it names.
        image_of: the image that a row with this id names as well.
        rejects: rows that do not count, with their reasons.
        repeated: how many rows repeat an earlier one.
        numbered: the ids are the numbers of the rows, so they may name nothing.
        prompt_of: a row's prompt, where it has one, by its id or image.
    """

    name: str
    by_id: dict[str, float] = field(default_factory=dict)
    by_image: dict[str, float] = field(default_factory=dict)
    image_of: dict[str, str] = field(default_factory=dict)
    rejects: list[UnusableRow] = field(default_factory=list)
    repeated: int = 0
    numbered: bool = False
    prompt_of: dict[str, str] = field(default_factory=dict)


class _ScoredRow(NamedTuple):
    key: str | None
    image: str
    value: float


def read_scores(path: Path, score: str = "overall", name: str | None = None) -> ScoreTable:
    """Read an evaluator's scores.

    A row whose score is no number, that names no image, or that stands twice with different scores is left out and
    named in the table's `rejects`. Where the score is empty or NaN, the image counts as not scored.

    Args:
        path: a JSONL file of ScoreRecords, or a table of another kind (`dyneval.files.tables.KINDS`) with an id column
            (`ID_COLUMNS`) or an image column (`IMAGE_COLUMNS`) and a column called `score` or as the argument `score`
            says; of both the latter counts.
        score: one of `FIELDS`, or the name of a table's column.
        name: how the evaluator is called; the file's stem where it is not given.

    Raises:
        DataFileError: the file cannot be read, holds scores of more than one evaluator, or more than half of its rows
            cannot be used.
    """
    filtered = RowFilter[_ScoredRow](path.name)
    kinds: dict[str, object] = {}
    offsets: set[int | None] = set()
    prompts: dict[str, str] = {}
    # Our own CSV has a ' before what a spreadsheet would run as a formula; it is no part of the name.
    meant = as_meant if kind_of(path) in (".csv", ".tsv") else str
    for number, row in enumerate(rows(path), 1):
        label = ""
        try:
            key, image = row_names(row, meant)
            label = key or image
            scored = _ScoredRow(key, image, _score(row, score))
        except (SchemaError, TypeError) as error:
            filtered.reject(label, number, str(error))
            continue
        filtered.add(("id", key) if key is not None else ("image", image), number, label, scored)
        if isinstance(prompt := row.get("prompt"), str):
            prompts[label] = meant(prompt)
        # Ids that count rows, from 0 or from 1, are no ids of images. Those of our own records always are.
        offsets.add(int(key) - number if key and re.fullmatch(r"\d{1,9}", key) and not is_record(row) else None)
        _refuse_mixture(path, row, kinds)
    kept = list(filtered.finish().values())
    if filtered.refusal:
        raise DataFileError(f"{path}: {filtered.refusal}")
    if not kept:
        raise DataFileError(f"{path}: holds no scores")
    return ScoreTable(
        name or path.stem,
        {one.key: one.value for one in kept if one.key is not None},
        {one.image: one.value for one in kept if one.key is None},
        {one.key: one.image for one in kept if one.key is not None and one.image},
        filtered.rejects,
        filtered.repeated,
        # Every id is its row's number, counted from 1 or from 0.
        offsets in ({0}, {-1}),
        prompts,
    )


def align(items: Sequence[RatedImage], table: ScoreTable) -> list[float]:
    """Return the score of each rated image, NaN where the evaluator gave none. Raises RatingError, see `join`."""
    found = join(items, table)
    return [found.get(id(item), ("", math.nan))[1] for item in items]


def join(items: Sequence[RatedImage], table: ScoreTable) -> dict[int, tuple[str, float]]:
    """Return the name of each rated image's row and its score, by `id(item)`: two models may have one item_id each.

    A row belongs to an image when its id is the image's, or when one of their paths ends in the other, see `match`.

    Raises:
        RatingError: two rows belong to one image, an id and a path contradict each other, or a path fits two images.
    """
    found: dict[int, tuple[str, float]] = {}
    keys = [*((key, table.image_of.get(key)) for key in table.by_id), *((None, image) for image in table.by_image)]
    try:
        belonging = match(items, keys, numbered=table.numbered)
    except RatingError as error:
        raise RatingError(f"{table.name}: {error}") from error
    rows_of_table = (*table.by_id.items(), *table.by_image.items())
    for of_row, name_and_score in zip(belonging, rows_of_table, strict=True):
        for item in of_row:
            if id(item) in found:
                raise RatingError(
                    f"{table.name}: two scores belong to the image {item.image}; give them the benchmark's ids"
                )
            found[id(item)] = name_and_score
    return found


def of_other_prompts(items: Sequence[RatedImage], table: ScoreTable) -> list[str]:
    """The ids of the images that people rated for another prompt than the evaluator: maybe of another edition."""
    found = join(items, table)
    ids = []
    for item in items:
        theirs = table.prompt_of.get(found[id(item)][0]) if id(item) in found else None
        if item.prompt and theirs and alike_prompt(item.prompt).casefold() != alike_prompt(theirs).casefold():
            ids.append(item.item_id)
    return ids


def is_record(row: Row) -> bool:
    """True for a row of scores.jsonl."""
    return {"pair_id", "normalised", "template"} <= row.keys()


def read_records(path: Path) -> Iterator[ScoreRecord]:
    """Yield checked ScoreRecords. Raises SchemaError or DataFileError naming file and row."""
    for number, row in enumerate(rows(path), 1):
        yield ScoreRecord.from_dict(row, f"{path}:{number}")


def score_of(record: ScoreRecord, field: str) -> float | None:
    """The score (1-5) of a record that one of `FIELDS` names; None where it has none."""
    kind, _, name = field.rpartition(".")
    value = (record.soft or {} if kind else record.scores).get(name)  # type: ignore[call-overload]
    return None if value is None else float(value)


def refuse_other_field(field: str) -> None:
    """Raise SettingError where `field` is none of `FIELDS`."""
    if field not in FIELDS:
        raise SettingError(f"--score {field}: expected one of {', '.join(FIELDS)}")


def other_settings(seen: dict[str, object], settings: Mapping[str, Any]) -> str | None:
    """The setting that is not as in the records before, which `seen` keeps; None where all are that both tell of.

    All settings that scores depend on count, as they do in the keys of records.
    """
    known = as_in_key(settings)
    for name in settings:
        value = known.get(name, settings[name])
        if seen.setdefault(name, value) != value:
            return f"{name} {seen[name]} and {value}"
    return None


def _score(row: Row, score: str) -> float:
    """The score of a row, NaN where it has none. Raises TypeError or SchemaError where it has something else."""
    if is_record(row) and score in FIELDS:
        found = score_of(ScoreRecord.from_dict(row), score)
        if found is None:
            raise TypeError(f"has no {score}; choose another field")
        return found
    # The column that was asked for counts even where there is one called score, too.
    column = "score" if score in FIELDS and score not in row else score
    if column not in row:
        raise TypeError(f"has no column 'score' or {score!r}, only {', '.join(row)}")
    # A cell with a list of one number is a score; a list of several is not.
    try:
        (value,) = numbers(row[column])
    except ValueError:
        raise TypeError(f"{column}: expected one number, found {row[column]!r}") from None
    except TypeError as error:
        raise TypeError(f"{column}: {error}") from error
    if math.isinf(value):
        raise TypeError(f"{column}: {value} is no number that can be compared")
    return value


def row_names(row: Row, meant: Callable[[str], str]) -> tuple[str | None, str]:
    """The id of a row, if any, and the image that it names, empty where it has an id alone.

    Args:
        row: of any table.
        meant: makes of a cell what it stands for, such as `dyneval.files.delimited.as_meant` in CSV.

    Raises:
        TypeError: it has neither, or two of its columns name different things.
    """
    ids, images = (
        {column: meant(name) for column in columns if (name := name_of(row.get(column))) is not None}
        for columns in (ID_COLUMNS, IMAGE_COLUMNS)
    )
    # A column called id may be any numbering; the other two say whose ids they hold.
    alike_ids = {column: (alike_id(ids[column]),) for column in ID_COLUMNS[:2] if column in ids}
    alike_images = {column: alike_path(image) for column, image in images.items()}
    for parts, named in ((alike_ids, ids), (alike_images, images)):
        for first, second in combinations(parts, 2):
            # One of two columns may hold the end of the path that the other holds.
            if not ends_alike(parts[first], parts[second]):
                raise TypeError(f"{first} {named[first]} and {second} {named[second]} contradict each other")
    key, image = (next(iter(names.values()), None) for names in (ids, images))
    if key is None and image is None:
        expected = ", ".join((*ID_COLUMNS, *IMAGE_COLUMNS))
        raise TypeError(f"names no image; expected one of the columns {expected}")
    return key, image or ""


def _refuse_mixture(path: Path, row: Row, kinds: dict[str, object]) -> None:
    """One file holds one evaluator's scores: scores of two, or of one under two settings, do not compare."""
    if not is_record(row):
        # A rival's table; any other table says nothing of how its scores were made.
        made = row.get("settings") if "rival" in row else None
        if (first := kinds.setdefault("rival", made)) != made:
            raise DataFileError(f"{path}: mixes scores made with {first} and {made}; keep them in separate files")
        return
    for key in ("model", "template"):
        # One student may stand in two folders: what its weights are counts more than its name.
        found = str((row.get("revision") if key == "model" else None) or row.get(key))
        if kinds.setdefault(key, found) != found:
            raise DataFileError(f"{path}: mixes scores of {key} {kinds[key]} and {found}; keep them in separate files")
    if other := other_settings(kinds, row.get("settings") or {}):
        raise DataFileError(f"{path}: mixes scores of {other}, which do not compare; keep them in separate files")
