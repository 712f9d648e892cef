"""Where prompts come from: Parquet, text, CSV and JSONL files, globs of them, Hugging Face datasets and folders.

Every reader yields `RawBatch`es of limited size, so memory does not grow with the input.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from dyneval.errors import DataFileError, UserError
from dyneval.files import tables
from dyneval.files.opening import PACKED, check_unpacked, decoded, opened, raw_lines
from dyneval.files.parquet import FLOOR, reading, text_column, unpacked_size
from dyneval.files.row import require
from dyneval.files.tables import BadRow, each_row, kind_of
from dyneval.records import Reject
from dyneval.structs import Row

KINDS = (*tables.KINDS, ".txt")
BATCH_ROWS = 200_000
NSFW_COLUMNS = ("prompt_nsfw", "image_nsfw")
_SCHEMA = {"prompt": pl.String, "prompt_nsfw": pl.Float32, "image_nsfw": pl.Float32}
_DATASET_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


class SourceError(UserError, ValueError):
    """An input cannot be read at all; the message names it, what was expected and what to do."""


class RawBatch(NamedTuple):
    """Rows as they came: columns prompt, prompt_nsfw, image_nsfw (NULL where the source has none).

    The key of what could not be read is where it stands.
    """

    rows: pl.DataFrame
    unreadable: list[Reject]


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
    if _DATASET_ID.fullmatch(item) and Path(item).suffix.lower() not in (*KINDS, *PACKED):
        return [Source(item, None)]
    raise SourceError(f"{item}: no such file, and no file matches it; check the path (globs need quotes in the shell)")


def read(source: Source, column: str = "prompt", split: str = "train") -> Iterator[RawBatch]:
    """Yield the rows of one source, in order. `column` holds the prompts; `split` is for Hugging Face datasets.

    Raises:
        DataFileError: the file cannot be read, is of no known kind, or has no such column, or one without texts.
        SourceError: the dataset cannot be loaded.
    """
    if source.path is None or source.path.is_dir():
        return _read_dataset(source, column, split)
    kind = kind_of(source.path, KINDS)
    if kind == ".parquet":
        return _read_parquet(source.path, column)
    return _batches(_text_rows(source.path) if kind == ".txt" else _table_rows(source.path, column))


def _read_parquet(path: Path, column: str) -> Iterator[RawBatch]:
    """The batches as polars makes them: 1.8 million rows as objects of Python would take longer than all stages."""
    with reading(path):
        lazy = pl.scan_parquet(path, glob=False)
        kinds = lazy.collect_schema()
        require(path, kinds.names(), [column])
        scores = {name: _score_column(path, name, kinds.get(name)) for name in NSFW_COLUMNS}
        wanted = lazy.select(text_column(path, column, kinds[column]).alias("prompt"), **scores)
        check_unpacked(path, unpacked_size(path, [column, *NSFW_COLUMNS]), FLOOR)
        for rows in wanted.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            check_unpacked(path, int(rows["prompt"].str.len_bytes().sum()), FLOOR)
            yield RawBatch(rows, [])


def _score_column(path: Path, name: str, kind: pl.DataType | None) -> pl.Expr:
    if kind is None:
        return pl.lit(None, pl.Float32)
    if not (kind.is_numeric() or isinstance(kind, (pl.String, pl.Boolean, pl.Null))):
        raise DataFileError(f"{path}: the column {name!r} holds {kind}, expected numbers")
    return pl.col(name).cast(pl.Float32, strict=False)


def _text_rows(path: Path) -> Iterator[Row | Reject]:
    with opened(path) as file:
        for number, line in enumerate(raw_lines(file, path), 1):
            try:
                yield {"prompt": decoded(line).rstrip("\r\n")}
            except UnicodeDecodeError as error:
                yield _unreadable(f"{path}:{number}", f"is neither UTF-8 nor Windows-1252 ({error}); save it as UTF-8")


def _table_rows(path: Path, column: str) -> Iterator[Row | Reject]:
    columns = (column, *NSFW_COLUMNS)
    for number, row in enumerate(each_row(path, columns, [column], "prompts", text=column, lenient=True), 1):
        if isinstance(row, BadRow):
            yield _unreadable(f"{path}:{row.line}", row.reason)
        else:
            yield _taken(row, column, f"{path}: row {number}")


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
    require(Path(source.item), columns, [column])
    rows = rows.select_columns([column, *(name for name in NSFW_COLUMNS if name in columns)])
    yield from _batches(_taken(row, column, f"{source.item}: row {number}") for number, row in enumerate(rows, 1))


def _unreadable(where: str, reason: str) -> Reject:
    return Reject(key=where, kind="row", reason=reason)


def _taken(row: Row, column: str, where: str) -> Row | Reject:
    if column not in row:
        return _unreadable(where, f"expected an object with the key {column!r} (see --column)")
    text = row[column]
    if not isinstance(text, str | None):
        return _unreadable(where, f"{column!r} holds {type(text).__name__}, expected text")
    if text is not None and not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold half of a surrogate pair
    return {"prompt": text, **{name: _number(row.get(name)) for name in NSFW_COLUMNS}}


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _batches(rows: Iterable[Row | Reject]) -> Iterator[RawBatch]:
    iterator = iter(rows)
    while block := list(islice(iterator, BATCH_ROWS)):
        good = [row for row in block if not isinstance(row, Reject)]
        bad = [row for row in block if isinstance(row, Reject)]
        yield RawBatch(pl.DataFrame(good, schema=_SCHEMA), bad)
