"""Where prompts come from: Parquet, text, CSV and JSONL files, globs of them, Hugging Face datasets and folders.

Every reader yields `RawBatch`es of limited size, so memory does not grow with the input. A row that cannot be read is
yielded as a `Reject` with its place; left out in silence, it would be missed by nobody.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

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
        """What records give as their source: the name of the file alone, so that no folder of this machine gets out."""
        return self.path.name if self.path else self.item


def find(inputs: Iterable[str]) -> list[Source]:
    """Resolve inputs to sources.

    Args:
        inputs: File names, globs, folders and dataset ids, as they come from the command line.

    Returns:
        Sources sorted by name and without repeats, so that the order of the command line changes nothing.

    Raises:
        SourceError: an input is neither an existing file or folder, nor a glob that matches one, nor a dataset id.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        # A file whose name looks like a glob or like a dataset id is that file.
        if Path(item).exists():
            found[item] = Source(item, Path(item))
        elif matches := glob.glob(item, recursive=True):  # noqa: PTH207  Path.glob takes no absolute pattern
            found |= {match: Source(match, Path(match)) for match in matches}
        elif _DATASET_ID.fullmatch(item) and Path(item).suffix.lower() not in (*KINDS, *PACKED):
            found[item] = Source(item, None)
        else:
            raise SourceError(
                f"{item}: no such file, and no file matches it; check the path (globs need quotes in the shell)"
            )
    return [found[item] for item in sorted(found)]


def read(source: Source, column: str = "prompt", split: str = "train") -> Iterator[RawBatch]:
    """Yield the rows of one source, in order.

    Args:
        source: A file, a folder or a dataset id.
        column: Column or key that holds the prompts; text files have none.
        split: Of a Hugging Face dataset.

    Raises:
        DataFileError: the file cannot be read, is of no known kind, or has no such column, or one without texts.
        SourceError: the dataset cannot be loaded.
    """
    if source.path is None or source.path.is_dir():
        return _read_dataset(source, column, split)
    kind = kind_of(source.path, KINDS)
    if kind == ".parquet":
        return _read_parquet(source.path, column)
    return _batches(_rows(source.path, column, kind))


def _read_parquet(path: Path, column: str) -> Iterator[RawBatch]:
    """The batches as polars makes them: 1.8 million rows as objects of Python would take longer than all stages."""
    with reading(path):
        lazy = pl.scan_parquet(path, glob=False)
        kinds = lazy.collect_schema()
        require(path, kinds.names(), [column])
        scores = {}
        for name in NSFW_COLUMNS:
            score = kinds.get(name, pl.Null())
            if not (score.is_numeric() or isinstance(score, (pl.String, pl.Boolean, pl.Null))):
                raise DataFileError(f"{path}: the column {name!r} holds {score}, expected numbers")
            present = pl.col(name) if name in kinds else pl.lit(None)
            scores[name] = present.cast(pl.Float32, strict=False)
        wanted = lazy.select(text_column(path, column, kinds[column]).alias("prompt"), **scores)
        # A few kilobytes of Parquet may unpack to terabytes: its footer says how much before anything is unpacked, and
        # each batch is measured, for the footer may lie.
        check_unpacked(path, unpacked_size(path, [column, *NSFW_COLUMNS]), FLOOR)
        for rows in wanted.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            check_unpacked(path, int(rows["prompt"].str.len_bytes().sum()), FLOOR)
            yield RawBatch(rows, [])


def _rows(path: Path, column: str, kind: str) -> Iterator[Row | Reject]:
    """Rows of a text file, a prompt a line, or of a table."""
    if kind != ".txt":
        columns = (column, *NSFW_COLUMNS)
        for number, row in enumerate(each_row(path, columns, [column], "prompts", text=column, lenient=True), 1):
            if isinstance(row, BadRow):
                yield Reject(key=f"{path}:{row.line}", kind="row", reason=row.reason)
            else:
                yield _taken(row, column, f"{path}: row {number}")
        return
    with opened(path) as file:
        for number, line in enumerate(raw_lines(file, path), 1):
            # Line by line, so that a line in another encoding costs one prompt and not the file.
            try:
                yield {"prompt": decoded(line).rstrip("\r\n")}
            except UnicodeDecodeError as error:
                reason = f"is neither UTF-8 nor Windows-1252 ({error}); save it as UTF-8"
                yield Reject(key=f"{path}:{number}", kind="row", reason=reason)


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


def _taken(row: Row, column: str, where: str) -> Row | Reject:
    """The prompt and the scores of a row of a table, or why there is none."""
    if column not in row:
        return Reject(key=where, kind="row", reason=f"expected an object with the key {column!r} (see --column)")
    text = row[column]
    if not isinstance(text, str | None):
        return Reject(key=where, kind="row", reason=f"{column!r} holds {type(text).__name__}, expected text")
    if text is not None and not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold half of a surrogate pair
    taken: Row = {"prompt": text}
    for name in NSFW_COLUMNS:
        # A score that is no number is a missing one: the limits let it through, and the run says how many there were.
        try:
            taken[name] = float(row.get(name))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            taken[name] = None
    return taken


def _batches(rows: Iterable[Row | Reject]) -> Iterator[RawBatch]:
    iterator = iter(rows)
    while block := list(islice(iterator, BATCH_ROWS)):
        good = [row for row in block if not isinstance(row, Reject)]
        bad = [row for row in block if isinstance(row, Reject)]
        yield RawBatch(pl.DataFrame(good, schema=_SCHEMA), bad)
