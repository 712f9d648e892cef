"""Any table of ratings: CSV, JSONL, JSON or Parquet, with the names of its columns.

--benchmark generic --annotations mine.csv --column rating=mos --column image=file
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError, SettingError
from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, numbers, read_csv
from dyneval.storage import read_jsonl, read_rows

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


def table_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a CSV, TSV, JSONL, JSON or Parquet file. Raises DataFileError when it cannot be read."""
    if path.suffix in (".csv", ".tsv"):
        yield from read_csv(path)
    elif path.suffix == ".parquet":
        import polars as pl

        try:
            yield from pl.read_parquet(path).iter_rows(named=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataFileError(f"{path}: cannot be read as Parquet ({error})") from error
    elif path.suffix == ".jsonl":
        yield from read_jsonl(path)
    elif path.suffix == ".json":
        yield from read_rows(path)
    else:
        raise DataFileError(f"{path}: files called *{path.suffix or path.name} are not read")


def _read(path: Path, names: Mapping[str, str]) -> Iterator[RatedImage]:
    for row in table_rows(path):
        image = row[names["image"]]
        category = row.get(names["category"])
        yield RatedImage(
            item_id=str(row.get(names["id"]) or image),
            image=str(image),
            prompt=row.get(names["prompt"]),
            ratings=numbers(row[names["rating"]]),
            model=row.get(names["model"]),
            categories=tuple(category) if isinstance(category, list) else (category,) if category else (),
        )
