"""Tables of pairs as they come from outside: JSONL, JSON, CSV, TSV, Parquet, or a Hugging Face ImageFolder.

A row names an image (`file_name`, relative to the table's folder), the `prompt` it was made from, perhaps a `pair_id`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from dyneval.errors import DataFileError
from dyneval.jsonl import Row
from dyneval.storage import read_rows

COLUMNS = ("pair_id", "prompt", "file_name")
_IMAGE_FOLDER = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_LONGEST_FIELD = 1 << 24
"""Bytes; the csv module's own limit of 128 KiB would end the whole file at one long prompt."""


def metadata_file(path: Path) -> Path:
    """The table itself: `path`, or of an ImageFolder the metadata file inside. Raises DataFileError where none is."""
    if not path.is_dir():
        return path
    found = [path / name for name in _IMAGE_FOLDER if (path / name).is_file()]
    if len(found) != 1:
        have = " and ".join(file.name for file in found) or "none"
        raise DataFileError(f"{path}: expected exactly one of {', '.join(_IMAGE_FOLDER)} in this folder, found {have}")
    return found[0]


def read_pairs(path: Path) -> list[Row]:
    """Read the rows of a table of pairs, told apart by the ending of its name; what a row lacks it simply lacks.

    Raises:
        DataFileError: the file is missing, is of no known kind, cannot be read, or has not the columns it needs.
    """
    file = metadata_file(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise DataFileError(f"{file}: unknown kind of file; pairs are read from {', '.join(_READERS)} or a folder")
    return reader(file)


def _read_csv(path: Path) -> list[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, dialect="excel-tab" if path.suffix.lower() == ".tsv" else "excel")
            _require(path, rows.fieldnames or [])
            return [{name: row[name] for name in COLUMNS if row.get(name)} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error


def _read_parquet(path: Path) -> list[Row]:
    import polars as pl

    try:
        present = pl.read_parquet_schema(path)
        _require(path, list(present))
        rows = pl.read_parquet(path, columns=[name for name in COLUMNS if name in present]).to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataFileError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def _require(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in ("file_name", "prompt") if name not in columns]
    if missing:
        raise DataFileError(f"{path}: lacks the column {' and '.join(missing)}; it has {', '.join(columns) or 'none'}")


_READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": read_rows,
    ".json": read_rows,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
