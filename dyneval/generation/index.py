"""An index of a GenDB in Parquet: what commands look for, so that none of them reads all records or holds them.

    gendb/.index.parquet    a row a pair: what is selected by and counted, and where its record stands in metadata.jsonl

It is made anew, in one pass that holds nothing but the ids, whenever metadata.jsonl is not the file it was made from.
Hidden files are no data to loaders of image folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dyneval.errors import DataFileError, GenerationError, SchemaError
from dyneval.files.atomic import atomic_write
from dyneval.files.opening import opened, raw_lines
from dyneval.files.pairs import TWICE, meaning, pair_of_line
from dyneval.records import PairRecord
from dyneval.structs import Row

log = logging.getLogger(__name__)

CHUNK = 50_000
"""Rows that are held while the index is written."""
TOLD = 20
"""So many bad rows are logged one by one."""
COLUMNS: dict[str, Any] = {
    "pair_id": pl.String,
    "file_name": pl.String,
    "prompt_id": pl.String,
    "generation_model": pl.String,
    "tier": pl.Int8,
    "categories": pl.List(pl.String),
    "seed": pl.Int64,
    "width": pl.Int32,
    "height": pl.Int32,
    "sha256": pl.String,
    "fingerprint": pl.String,
    "seconds": pl.Float64,
    "cost_usd": pl.Float64,
    "place": pl.Int64,
    "length": pl.Int32,
}
"""`place` and `length` are bytes of metadata.jsonl; the other columns stand in the records."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which pairs of a GenDB are meant; nothing given means all.

    Attributes:
        where: a condition in SQL on the columns of the index, such as "width >= 1024 AND seconds < 60".
        unique: of images with the same bytes only the first by pair_id.
        limit: only so many pairs, the first in the file.
    """

    models: Sequence[str] = ()
    categories: Sequence[str] = ()
    tiers: Sequence[int] = ()
    where: str | None = None
    unique: bool = False
    limit: int | None = None

    def of(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The rows of an index that are meant, in the order of the file. Raises GenerationError: `where` is no SQL."""
        if self.models:
            frame = frame.filter(pl.col("generation_model").is_in(list(self.models)))
        if self.categories:
            frame = frame.filter(pl.col("categories").list.set_intersection(list(self.categories)).list.len() > 0)
        if self.tiers:
            frame = frame.filter(pl.col("tier").is_in(list(self.tiers)))
        if self.where:
            try:
                frame = frame.filter(pl.sql_expr(self.where))
                frame.collect_schema()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                known = ", ".join(COLUMNS)
                raise GenerationError(f"--where {self.where!r}: {error}; the columns are {known}") from error
        if self.unique:
            frame = frame.sort("pair_id").unique("sha256", keep="first").sort("place")
        return frame if self.limit is None else frame.head(self.limit)


class Index:
    """The index of a GenDB, up to date when it was opened."""

    def __init__(self, folder: Path) -> None:
        """Open it; made when it is missing or of another metadata.jsonl. Raises DataFileError: there is no pair."""
        self.folder = folder
        self.metadata = folder / "metadata.jsonl"
        self.path = folder / ".index.parquet"
        if not self.metadata.is_file():
            raise DataFileError(f"{self.metadata}: no such file; a GenDB has one")
        status = self.metadata.stat()
        source = f"{status.st_size} {status.st_mtime_ns}"
        if _note(self.path, "source") != source:
            _write(self.path, self.metadata, source)
        self.rejected = int(_note(self.path, "rejected") or 0)
        """Rows of metadata.jsonl that are no pairs."""

    def frame(self, selection: Selection | None = None) -> pl.LazyFrame:
        """The rows, with the columns of COLUMNS."""
        frame = pl.scan_parquet(self.path)
        return frame if selection is None else selection.of(frame)

    def lines(self, selection: Selection | None = None) -> Iterator[bytes]:
        """Yield the records that are meant as they stand in the file, without their ends."""
        places = self.frame(selection).select("place", "length").collect(engine="streaming")
        with self.metadata.open("rb") as file:
            for place, length in places.iter_rows():
                yield os.pread(file.fileno(), length, place)

    def records(self, selection: Selection | None = None) -> Iterator[PairRecord]:
        """Yield the records that are meant, in the order of the file."""
        for line in self.lines(selection):
            yield pair_of_line(line, str(self.metadata))


def _note(path: Path, name: str) -> str | None:
    """What the index says of itself; None where it is missing or no index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        notes = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    found = notes.get(name.encode())
    return None if found is None else found.decode()


def _write(path: Path, metadata: Path, source: str) -> None:
    """Write the index. Of the rows with one pair_id the first counts, as for every reader of pairs."""
    import pyarrow.parquet as pq

    said: dict[str, int] = {}
    rejected = 0
    schema = pl.DataFrame(schema=COLUMNS).to_arrow().schema
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        held: list[Row] = []
        place = 0
        for number, line in enumerate(_lines(metadata), 1):
            here, place = place, place + len(line)
            fault = _take(line, here, f"{metadata}:{number}", said, held) if line.strip() else None
            if fault:
                rejected += 1
                if rejected <= TOLD:
                    log.warning("%s", fault)
            if len(held) == CHUNK:
                _flush(writer, held)
        _flush(writer, held)
        if place != metadata.stat().st_size:
            raise DataFileError(f"{metadata}: expected UTF-8 without a mark at its beginning, as Step 2 writes it")
        writer.add_key_value_metadata({"source": source, "rejected": str(rejected)})
    if rejected > TOLD:
        log.warning("%s: %d more rows are no pairs", metadata, rejected - TOLD)
    if not said:
        path.unlink()
        raise DataFileError(f"{metadata}: has no row that is a pair")


def _lines(metadata: Path) -> Iterator[bytes]:
    with opened(metadata) as file:
        yield from raw_lines(file, metadata)


def _take(line: bytes, place: int, where: str, said: dict[str, int], held: list[Row]) -> str | None:
    """Put the pair of a line to those that are held; returns what is wrong with it."""
    try:
        pair = pair_of_line(line, where)
    except SchemaError as error:
        return str(error)
    if pair.pair_id in said:
        return None if said[pair.pair_id] == meaning(pair) else f"{where}: {TWICE}"
    said[pair.pair_id] = meaning(pair)
    held.append(_row(pair, place, len(line)))
    return None


def _row(pair: PairRecord, place: int, length: int) -> Row:
    details = pair.settings.get("details")
    cost = details.get("cost_usd") if isinstance(details, dict) else None
    seconds = pair.settings.get("seconds")
    values = {name: getattr(pair, name, None) for name in COLUMNS}
    return {
        **values,
        "categories": list(pair.categories),
        "fingerprint": str(pair.settings.get("fingerprint", "")),
        "seconds": float(seconds) if isinstance(seconds, int | float) else None,
        "cost_usd": float(cost) if isinstance(cost, int | float) else None,
        "place": place,
        "length": length,
    }


def _flush(writer: Any, held: list[Row]) -> None:
    if held:
        writer.write_table(pl.DataFrame(held, schema=COLUMNS).to_arrow().cast(writer.schema))
        held.clear()
