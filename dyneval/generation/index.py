"""An index of a GenDB in Parquet: what commands look for, so that none of them reads all records or holds them.

    gendb/.index.parquet    a row a pair: what is selected by and counted, and where its record stands in metadata.jsonl

It is made anew, in one pass that holds nothing but the ids, whenever metadata.jsonl is not the file it was made from.
Hidden files are no data to loaders of image folders.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from dyneval.errors import DataFileError, GenerationError, SchemaError, did_you_mean
from dyneval.files.atomic import atomic_write
from dyneval.files.opening import opened, raw_lines
from dyneval.files.pairs import TWICE, pair_of_line, said_again
from dyneval.generation import parts
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
    "width": pl.Int64,
    "height": pl.Int64,
    "sha256": pl.String,
    "fingerprint": pl.String,
    "seconds": pl.Float64,
    "cost_usd": pl.Float64,
    "place": pl.Int64,
    "length": pl.Int64,
}
"""`place` and `length` are bytes of metadata.jsonl; the other columns stand in the records.

A number that a column cannot hold is null here; the record keeps it.
"""
_FORM = 2
"""Goes up with every change of the columns: an index of another form is made anew."""
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


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
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                raise self._fault(error) from error
        if self.unique:
            frame = frame.sort("pair_id").unique("sha256", keep="first").sort("place")
        return frame if self.limit is None else frame.head(self.limit)

    def collect(self, *frames: pl.LazyFrame) -> list[pl.DataFrame]:
        """Compute what is asked of rows that are meant. Raises GenerationError: `where` cannot be answered."""
        try:
            return pl.collect_all(frames, engine="streaming")
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise self._fault(error) from error

    def _fault(self, error: BaseException) -> GenerationError:
        what = f"--where {self.where!r}" if self.where else "the index cannot be read"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        return GenerationError(f"{what}: {reason}; the columns are {', '.join(COLUMNS)}")

    def __str__(self) -> str:
        """As flags of the command line."""
        flags = [f"--model {name}" for name in self.models] + [f"--category {name}" for name in self.categories]
        flags += [f"--tier {tier}" for tier in self.tiers] + ([f"--where {self.where!r}"] if self.where else [])
        flags += [f"--limit {self.limit}"] if self.limit is not None else []
        return " ".join(flags)


ALL = Selection()


class Index:
    """The index of a GenDB, up to date when it was opened."""

    def __init__(self, folder: Path) -> None:
        """Open it; made when it is missing or of another metadata.jsonl. Raises DataFileError: there is no pair.

        For a folder that cannot be written to it is made elsewhere, and is gone with this object.
        """
        self.folder = folder
        self.metadata = folder / "metadata.jsonl"
        self.path = folder / ".index.parquet"
        unfinished = ""
        if parts.unfinished(folder):
            unfinished = f"a run that was stopped, or is still going on, has records in {folder / parts.FOLDER}: the "
            unfinished += "next `dyneval generate` into this folder adds them"
        if not self.metadata.is_file():
            raise DataFileError(f"{self.metadata}: no such file; {unfinished or 'a GenDB has one'}")
        if unfinished:
            log.warning("%s: %s; they are left out here", folder, unfinished)
        status = self.metadata.stat()
        source = f"form {_FORM} {status.st_size} {status.st_mtime_ns}"
        if _note(self.path, "source") != source:
            try:
                _write(self.path, self.metadata, source)
            except OSError as error:
                if error.errno not in _UNWRITABLE:
                    raise
                log.info("%s: cannot be written to; the index is made for this command alone", folder)
                self._elsewhere = TemporaryDirectory(prefix="gendb-index-")
                self.path = Path(self._elsewhere.name, "index.parquet")
                _write(self.path, self.metadata, source)
        self.rejected = int(_note(self.path, "rejected") or 0)
        """Rows of metadata.jsonl that are no pairs."""

    def frame(self, selection: Selection) -> pl.LazyFrame:
        """The rows that are meant, with the columns of COLUMNS.

        Raises:
            GenerationError: there is none, there is no such model or category, or `where` is no condition on the rows.
        """
        whole = pl.scan_parquet(self.path)
        for flag, names, column in (
            ("--model", selection.models, pl.col("generation_model")),
            ("--category", selection.categories, pl.col("categories").explode()),
        ):
            if names:
                (known,) = selection.collect(whole.select(column.unique().drop_nulls().sort()))
                self._refuse_unknown(flag, names, known.to_series().to_list())
        frame = selection.of(whole)
        (count,) = selection.collect(frame.select(pl.len()))
        if not count.item():
            raise GenerationError(f"{self.folder}: no pair is meant by {selection}")
        return frame

    def _refuse_unknown(self, flag: str, names: Iterable[str], known: list[str]) -> None:
        for name in names:
            if name not in known:
                raise GenerationError(f"{self.folder}: no pair is of {flag} {name}; {did_you_mean(name, known[:100])}")

    def lines(self, selection: Selection) -> Iterator[bytes]:
        """The records that are meant, as they stand in the file. Raises GenerationError as `frame`, at once."""
        (places,) = selection.collect(self.frame(selection).select("place", "length"))
        return self._read(places)

    def _read(self, places: pl.DataFrame) -> Iterator[bytes]:
        with self.metadata.open("rb") as file:
            for place, length in places.iter_rows():
                yield os.pread(file.fileno(), length, place)

    def records(self, selection: Selection) -> Iterator[PairRecord]:
        """The records that are meant, in the order of the file. Raises GenerationError as `frame`, at once."""
        return (pair_of_line(line, str(self.metadata)) for line in self.lines(selection))


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
    is_same = said_again(said, pair)
    if is_same is None:
        held.append(_row(pair, place, len(line)))
    return f"{where}: {TWICE}" if is_same is False else None


def _row(pair: PairRecord, place: int, length: int) -> Row:
    details = pair.settings.get("details")
    cost = details.get("cost_usd") if isinstance(details, dict) else None
    values = {name: getattr(pair, name, None) for name in COLUMNS}
    return {
        **values,
        **{name: _whole(values[name]) for name in ("seed", "width", "height")},
        "categories": list(pair.categories),
        "fingerprint": str(pair.settings.get("fingerprint", "")),
        "seconds": _number(pair.settings.get("seconds")),
        "cost_usd": _number(cost),
        "place": place,
        "length": length,
    }


def _whole(value: int | None) -> int | None:
    return value if value is not None and value < 1 << 63 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # 10 ** 400
        return None
    return number if math.isfinite(number) else None


def _flush(writer: Any, held: list[Row]) -> None:
    if held:
        writer.write_table(pl.DataFrame(held, schema=COLUMNS).to_arrow().cast(writer.schema))
        held.clear()
