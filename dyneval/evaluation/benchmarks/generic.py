"""Any table of ratings: CSV, JSONL, JSON or Parquet, with the names of its columns.

    $ dyneval benchmark --benchmark generic --annotations mine.csv --column rating=mos --column image=file ...

A row is one image with all of its ratings. In a table with the column `rater`, such as `dyneval serve --rate` writes,
it is what one rater gave an image; where a rater rates an image again, the last row counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from dyneval.errors import SettingError
from dyneval.evaluation.benchmarks.base import (
    Benchmark,
    Field,
    RatedImage,
    listed,
    numbers,
    off_scale,
)
from dyneval.evaluation.spelling import name_of
from dyneval.files.delimited import as_meant
from dyneval.files.tables import BadRow, kind_of, rows, texts_of
from dyneval.structs import Row

COLUMNS = {
    "rating": "a number, or a list with one for each rater",
    "image": "path below the image folder",
    "id": "unique id; the image path where it is missing",
    "prompt": "the text the image was made from",
    "model": "the T2I model",
    "category": "a name, or a list of names",
    "fold": "in which part of a cross-validation the image was tested",
    "rater": "who gave the rating, where a row is one rater's; the last row of a rater and image counts",
}
"""What a table may hold; a column has the name of its meaning unless another name is given."""
NEEDED = ("rating", "image")


def benchmark(
    columns: Mapping[str, str] | None = None, scale: tuple[float, float] | None = None, title: str = "own ratings"
) -> Benchmark:
    """Describe a table of one's own.

    Args:
        columns: meaning -> name in the table, for those that are called otherwise.
        scale: lowest and highest rating.
        title: as in tables and reports.

    Raises:
        SettingError: `columns` holds an unknown meaning.
    """
    names = {meaning: meaning for meaning in COLUMNS} | dict(columns or {})
    unknown = set(names) - set(COLUMNS)
    if unknown:
        raise SettingError(f"unknown column meaning {sorted(unknown)[0]!r}; there are {', '.join(COLUMNS)}")
    # A column that is named has to be there: without that of the prompt, every image would be a prompt of its own.
    named = [name for meaning, name in (columns or {}).items() if meaning not in NEEDED]
    rating = Field(f"column {names['rating']}", *(scale or (None, None)))
    return Benchmark(
        name="generic",
        title=title,
        source="the command line (--column MEANING=NAME)",
        licence="yours",
        layout="a CSV, JSONL, JSON or Parquet file with the columns "
        + ", ".join(f"{names[meaning]} ({what})" for meaning, what in COLUMNS.items())
        + f"; {' and '.join(names[meaning] for meaning in NEEDED)} are needed",
        fields={"rating": rating},
        read=lambda path, field: _read(path, names, named, lambda value: off_scale(title, rating, value)),
    )


def _read(
    path: Path, names: Mapping[str, str], needs: Sequence[str], fault: Callable[[float], str | None]
) -> Iterator[RatedImage | BadRow]:
    text = _meant if kind_of(path) in (".csv", ".tsv") else name_of
    # Rows of raters are gathered until the end: the rows of one image may stand anywhere in the table.
    by_raters: dict[RatedImage, tuple[dict[str, tuple[float, ...]], list[int]]] = {}
    for number, row in enumerate(rows(path, needs=needs), 1):
        try:
            item, rater = _rated(row, names, text), text(row.get(names["rater"]))
            if rater is None:
                yield item
                continue
            ratings = numbers(item.ratings)
        except TypeError as error:
            yield BadRow(number, str(error))
            continue
        # Here and not in `load`: of an image of several raters it is this rater's row that is at fault.
        if reason := next(filter(None, map(fault, ratings)), None):
            yield BadRow(number, reason)
            continue
        given, numbered = by_raters.setdefault(replace(item, ratings=()), ({}, []))
        given[rater] = ratings
        numbered.append(number)
    for item, (given, numbered) in by_raters.items():
        yield replace(item, ratings=tuple(chain.from_iterable(given.values())), rows=tuple(numbered))


def _rated(row: Row, names: Mapping[str, str], text: Callable[[Any], str | None]) -> RatedImage:
    # A KeyError of a missing column becomes a LayoutError in `load`, which names the columns that there are.
    image = text(row[names["image"]])
    if image is None:
        raise TypeError(f"{names['image']} is empty, expected {COLUMNS['image']}")
    category = row.get(names["category"])
    return RatedImage(
        item_id=text(row.get(names["id"])) or image,
        image=image,
        prompt=text(row.get(names["prompt"])),
        ratings=listed(row[names["rating"]]),
        model=text(row.get(names["model"])),
        categories=texts_of(category),
        fold=text(row.get(names["fold"])),
    )


def _meant(cell: Any) -> str | None:
    """A cell of CSV without the ' that keeps spreadsheets from running it."""
    value = name_of(cell)
    return None if value is None else as_meant(value)
