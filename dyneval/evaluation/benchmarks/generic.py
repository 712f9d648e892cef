"""Any table of ratings: CSV, JSONL, JSON or Parquet, with the names of its columns.

--benchmark generic --annotations mine.csv --column rating=mos --column image=file
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dyneval.errors import SettingError
from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.tables import BadRow, rows, text_of, texts_of
from dyneval.structs import Row

COLUMNS = {
    "rating": "a number, or a list with one for each rater",
    "image": "path below the image folder",
    "id": "unique id; the image path where it is missing",
    "prompt": "the text the image was made from",
    "model": "the T2I model",
    "category": "a name, or a list of names",
}
"""What a table may hold; a column is called as its meaning unless told otherwise."""
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
    low, high = scale or (None, None)
    return Benchmark(
        name="generic",
        title=title,
        source="the command line (--column MEANING=NAME)",
        layout="a CSV, JSONL, JSON or Parquet file with the columns "
        + ", ".join(f"{names[meaning]} ({what})" for meaning, what in COLUMNS.items())
        + f"; {' and '.join(names[meaning] for meaning in NEEDED)} are needed",
        fields={"rating": Field(f"column {names['rating']}", low, high)},
        read=lambda path, field: _read(path, names),
    )


def _read(path: Path, names: Mapping[str, str]) -> Iterator[RatedImage | BadRow]:
    for number, row in enumerate(rows(path), 1):
        try:
            yield _rated(row, names)
        except TypeError as error:
            yield BadRow(number, str(error))


def _rated(row: Row, names: Mapping[str, str]) -> RatedImage:
    image = text_of(row[names["image"]])
    if image is None:
        raise TypeError(f"{names['image']} is empty, expected {COLUMNS['image']}")
    category = row.get(names["category"])
    return RatedImage(
        item_id=text_of(row.get(names["id"])) or image,
        image=image,
        prompt=text_of(row.get(names["prompt"])),
        ratings=listed(row[names["rating"]]),
        model=text_of(row.get(names["model"])),
        categories=texts_of(category),
    )
