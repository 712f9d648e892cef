"""Where prompts come from: Parquet, text, CSV and JSONL files, globs of them, Hugging Face datasets and folders.

Every reader yields `RawBatch`es of limited size, so memory does not grow with the input.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from dyneval.errors import DataFileError, UserError
from dyneval.files.atomic import read_json

BATCH_ROWS = 200_000
NSFW_COLUMNS = ("prompt_nsfw", "image_nsfw")
_SCHEMA = {"prompt": pl.String, "prompt_nsfw": pl.Float32, "image_nsfw": pl.Float32}
_DATASET_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class SourceError(UserError, ValueError):
    """An input cannot be read at all; the message names it, what was expected and what to do."""


class Unreadable(NamedTuple):
    """A row that is no prompt: where it stands and why."""

    where: str
    reason: str


class RawBatch(NamedTuple):
    """Rows as they came: columns prompt, prompt_nsfw, image_nsfw (NULL where the source has none)."""

    rows: pl.DataFrame
    unreadable: list[Unreadable]


class Source(NamedTuple):
    """One file, folder or dataset id: `item` as it was given, `path` None for an id."""

    item: str
    path: Path | None

    @property
    def name(self) -> str:
        """What records say of where they come from: the file's own name, so that no folder of this machine is told."""
        return self.path.name if self.path else self.item


def find(inputs: Iterable[str]) -> list[Source]:
    """Resolve file names, globs, folders and dataset ids to sources, sorted by name and without repeats.

    Raises:
        SourceError: an input is neither an existing file or folder, nor a glob that matches one, nor a dataset id.
    """
    found = {source.item: source for item in inputs for source in _find_one(item)}
    return [found[item] for item in sorted(found)]


def _find_one(item: str) -> list[Source]:
    if Path(item).exists():
        return [Source(item, Path(item))]
    matches = sorted(glob.glob(item, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    if matches:
        return [Source(match, Path(match)) for match in matches]
    if _DATASET_ID.fullmatch(item) and Path(item).suffix not in _READERS:
        return [Source(item, None)]
    raise SourceError(f"{item}: no such file, and no file matches it; check the path (globs need quotes in the shell)")


def read(source: Source, column: str = "prompt", split: str = "train") -> Iterator[RawBatch]:
    """Yield the rows of one source, in order. `column` holds the prompts; `split` is for Hugging Face datasets.

    Raises:
        SourceError: the file cannot be opened, is of no known kind or has no such column.
    """
    if source.path is None or source.path.is_dir():
        return _read_dataset(source, column, split)
    reader = _READERS.get(source.path.suffix.lower())
    if reader is None:
        known = ", ".join(sorted(_READERS))
        raise SourceError(f"{source.item}: unknown kind of file; expected one of {known}, a folder or a dataset id")
    return _guarded(source.item, reader(source.path, column))


def _guarded(name: str, batches: Iterator[RawBatch]) -> Iterator[RawBatch]:
    try:
        yield from batches
    except (OSError, pl.exceptions.PolarsError, csv.Error) as error:
        raise SourceError(f"{name}: cannot be read ({str(error).splitlines()[0]})") from error


def _read_parquet(path: Path, column: str) -> Iterator[RawBatch]:
    lazy = pl.scan_parquet(path, glob=False)
    columns = lazy.collect_schema().names()
    _require(path, column, columns)
    wanted = lazy.select(
        pl.col(column).cast(pl.String).alias("prompt"),
        *(pl.col(name).cast(pl.Float32) if name in columns else _no_score(name) for name in NSFW_COLUMNS),
    )
    for rows in wanted.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        yield RawBatch(rows, [])


def _no_score(name: str) -> pl.Expr:
    return pl.lit(None, pl.Float32).alias(name)


def _require(path: Path | str, column: str, columns: Iterable[str]) -> None:
    columns = list(columns)
    if column not in columns:
        raise SourceError(f"{path}: has no column {column!r}; it has {', '.join(columns) or 'none'} (see --column)")


def _read_text(path: Path, column: str) -> Iterator[RawBatch]:
    del column  # a text file has lines only
    yield from _batches({"prompt": line.rstrip("\r\n")} for line in _lines(path))


def _read_csv(path: Path, column: str) -> Iterator[RawBatch]:
    csv.field_size_limit(1 << 30)  # the default of 128 KiB turns one long prompt into an error
    reader = csv.DictReader(_lines(path), dialect="excel-tab" if path.suffix.lower() == ".tsv" else "excel")
    _require(path, column, reader.fieldnames or [])
    yield from _batches(_csv_rows(path, reader, column))


def _csv_rows(path: Path, reader: csv.DictReader, column: str) -> Iterator[dict[str, Any] | Unreadable]:
    while True:
        try:
            yield _take(next(reader), column)
        except StopIteration:
            return
        except csv.Error as error:
            yield Unreadable(f"{path}:{reader.line_num}", f"is not CSV ({error})")


def _read_jsonl(path: Path, column: str) -> Iterator[RawBatch]:
    def parse(number: int, line: str) -> dict[str, Any] | Unreadable:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            return Unreadable(f"{path}:{number}", f"is not JSON ({error})")
        return _object(row, column, f"{path}:{number}")

    yield from _batches(parse(number, line) for number, line in enumerate(_lines(path), 1) if line.strip())


def _read_json(path: Path, column: str) -> Iterator[RawBatch]:
    def take(number: int, row: Any) -> dict[str, Any] | Unreadable:
        row = {column: row} if isinstance(row, str) else row
        return _object(row, column, f"{path}: entry {number}")

    try:
        rows = read_json(path)
    except DataFileError as error:
        raise SourceError(str(error)) from error
    if not isinstance(rows, list):
        raise SourceError(f"{path}: expected a JSON array of prompts or of objects, found {type(rows).__name__}")
    yield from _batches(take(number, row) for number, row in enumerate(rows))


def _object(row: Any, column: str, where: str) -> dict[str, Any] | Unreadable:
    if not isinstance(row, dict) or column not in row:
        return Unreadable(where, f"expected an object with the key {column!r} (see --column)")
    if not isinstance(row[column], str | None):
        return Unreadable(where, f"{column!r} holds {type(row[column]).__name__}, expected text")
    return _take(row, column)


def _read_dataset(source: Source, column: str, split: str) -> Iterator[RawBatch]:
    try:
        import datasets
    except ImportError as error:
        raise SourceError(f"{source.item}: reading a dataset needs the package datasets (extra train)") from error
    try:
        if source.path and (source.path / "dataset_info.json").exists() | (source.path / "dataset_dict.json").exists():
            loaded = datasets.load_from_disk(str(source.path))
            rows = loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            rows = datasets.load_dataset(source.item, split=split, streaming=True)
    except Exception as error:  # datasets raises its own, huggingface_hub's, fsspec's and built-in errors
        raise SourceError(f"{source.item}: is not a dataset that can be loaded ({error})") from error
    columns = rows.column_names or list(next(iter(rows), {}))
    _require(source.item, column, columns)
    rows = rows.select_columns([column, *(name for name in NSFW_COLUMNS if name in columns)])
    yield from _batches(_take(row, column) for row in rows)


_READERS: dict[str, Callable[[Path, str], Iterator[RawBatch]]] = {
    ".parquet": _read_parquet,
    ".txt": _read_text,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
}


def _take(row: dict[str, Any], column: str) -> dict[str, Any]:
    text = row[column]
    if text is not None and not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold half of a surrogate pair
    return {"prompt": text, **{name: _number(row.get(name)) for name in NSFW_COLUMNS}}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _batches(rows: Iterable[dict[str, Any] | Unreadable]) -> Iterator[RawBatch]:
    iterator = iter(rows)
    while block := list(islice(iterator, BATCH_ROWS)):
        good = [row for row in block if not isinstance(row, Unreadable)]
        bad = [row for row in block if isinstance(row, Unreadable)]
        yield RawBatch(pl.DataFrame(good, schema=_SCHEMA), bad)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text file in UTF-8, UTF-16 or, line by line, Windows-1252, with which any line can be decoded."""
    with path.open("rb") as file:
        start = file.read(3)
        file.seek(3 if start == b"\xef\xbb\xbf" else 0)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            yield from io.TextIOWrapper(file, "utf-16", errors="replace", newline="\n")
            return
        for line in file:
            yield _decode(line)


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")
