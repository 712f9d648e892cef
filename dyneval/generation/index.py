"""An index of a GenDB in Parquet, so that no command reads all records or holds them in memory.

    gendb/.index.parquet    a row a pair: what is selected by and counted, and where its record stands in metadata.jsonl

The index is made anew, in one pass that holds nothing but the ids, whenever metadata.jsonl is not the file it was made
from. Of 500,000 pairs that takes 10 s of CPU; a command that finds it takes 1 s. The file is hidden, since loaders of
image folders take every file that is not hidden for data. Whoever changes what a column means must raise `_FORM`, or
commands go by old indices.
"""

from __future__ import annotations

import errno
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from dyneval.errors import DataFileError, GenerationError, SchemaError, did_you_mean, made_by
from dyneval.files.atomic import atomic_write
from dyneval.files.opening import opened, raw_lines
from dyneval.files.pairs import TWICE, is_repeat, pair_of_line
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
"""`place` and `length` are bytes of metadata.jsonl; the other columns are values of the records.

A number that a column cannot hold is null here; the record keeps it.
"""
_FORM = 2
"""Goes up with every change of the columns: an index of another form is made anew."""
# The errors of a folder that may not be written to; a full disk is another error and ends the command.
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which pairs of a GenDB a command is about; nothing given means all.

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
        """Return the selected rows of an index, in the order of the file.

        Raises:
            GenerationError: `where` is not valid SQL.
        """
        if self.models:
            frame = frame.filter(pl.col("generation_model").is_in(list(self.models)))
        if self.categories:
            frame = frame.filter(pl.col("categories").list.set_intersection(list(self.categories)).list.len() > 0)
        if self.tiers:
            frame = frame.filter(pl.col("tier").is_in(list(self.tiers)))
        if self.where:
            # polars panics on some conditions instead of raising an error of its own.
            try:
                frame = frame.filter(pl.sql_expr(self.where))
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
                raise self._fault(error) from error
        if self.unique:
            frame = frame.sort("pair_id").unique("sha256", keep="first").sort("place")
        return frame if self.limit is None else frame.head(self.limit)

    def collect(self, *frames: pl.LazyFrame) -> list[pl.DataFrame]:
        """Compute frames that were made from rows of `of`.

        Raises:
            GenerationError: `where` cannot be answered, for example because it names a column that does not exist.
        """
        try:
            return pl.collect_all(frames, engine="streaming")
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise self._fault(error) from error

    def _fault(self, error: BaseException) -> GenerationError:
        what = f"--where {self.where!r}" if self.where else "the index cannot be read"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        return GenerationError(f"{what}: {reason}; the columns are {', '.join(COLUMNS)}")

    def __str__(self) -> str:
        """Return the flags of the command line that mean the same, for messages."""
        flags = [f"--model {name}" for name in self.models] + [f"--category {name}" for name in self.categories]
        flags += [f"--tier {tier}" for tier in self.tiers] + ([f"--where {self.where!r}"] if self.where else [])
        flags += [f"--limit {self.limit}"] if self.limit is not None else []
        return " ".join(flags)


ALL = Selection()


class Index:
    """The index of a GenDB, up to date when it was opened."""

    def __init__(self, folder: Path) -> None:
        """Open the index; make it when it is missing or of another metadata.jsonl.

        For a folder that cannot be written to it is made elsewhere, and is gone with this object.

        Raises:
            DataFileError: metadata.jsonl is missing, or has no pair.
        """
        self.folder = folder
        self.metadata = folder / "metadata.jsonl"
        self.path = folder / ".index.parquet"
        unfinished = ""
        if any(path.stat().st_size for path in parts.unfinished_runs(folder).values()):
            unfinished = f"a run that was stopped, or is still going on, has records in {folder / parts.FOLDER}: the "
            unfinished += "next `dyneval generate` into this folder adds them"
        if not self.metadata.is_file():
            hint = f"; {unfinished}" if unfinished else made_by(self.metadata)
            raise DataFileError(f"{self.metadata}: no such file{hint}")
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
                log.info("%s: cannot be written to; the index is kept for this command only", folder)
                self._elsewhere = TemporaryDirectory(prefix="gendb-index-")
                self.path = Path(self._elsewhere.name, "index.parquet")
                _write(self.path, self.metadata, source)
        self.rejected = int(_note(self.path, "rejected") or 0)
        """Rows of metadata.jsonl that are not valid pairs."""

    def frame(self, selection: Selection) -> pl.LazyFrame:
        """Return the selected rows, with the columns of COLUMNS.

        Raises:
            GenerationError: no row is selected, a model or category does not exist, or `where` is not a condition.
        """
        whole = pl.scan_parquet(self.path)
        for flag, names, column in (
            ("--model", selection.models, pl.col("generation_model")),
            ("--category", selection.categories, pl.col("categories").explode()),
        ):
            if names:
                (found,) = selection.collect(whole.select(column.unique().drop_nulls().sort()))
                known = found.to_series().to_list()
                if unknown := [name for name in names if name not in known]:
                    # A hundred names are enough to find a near one; there may be a million categories.
                    advice = did_you_mean(unknown[0], known[:100])
                    raise GenerationError(f"{self.folder}: no pair has {flag} {unknown[0]}; {advice}")
        frame = selection.of(whole)
        (count,) = selection.collect(frame.select(pl.len()))
        if not count.item():
            raise GenerationError(f"{self.folder}: no pair matches {selection}")
        return frame

    def lines(self, selection: Selection) -> Iterator[bytes]:
        """Return the selected records, as bytes of the file. Raises GenerationError as `frame`, at once."""
        (places,) = selection.collect(self.frame(selection).select("place", "length"))
        return self._read(places)

    # A function of its own, since a function that yields raises nothing before the first line is asked for.
    def _read(self, places: pl.DataFrame) -> Iterator[bytes]:
        with self.metadata.open("rb") as file:
            for place, length in places.iter_rows():
                yield os.pread(file.fileno(), length, place)

    def records(self, selection: Selection) -> Iterator[PairRecord]:
        """Return the selected records, in the order of the file. Raises GenerationError as `frame`, at once."""
        return (pair_of_line(line, str(self.metadata)) for line in self.lines(selection))


def _note(path: Path, name: str) -> str | None:
    """Return a note that the index holds on itself; None where the file is missing or is not an index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        notes = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    found = notes.get(name.encode())
    return None if found is None else found.decode()


def _write(path: Path, metadata: Path, source: str) -> None:
    """Write the index of `metadata`, with a note on the `source` that it was made from."""
    import pyarrow.parquet as pq

    counts: Counter[str] = Counter()
    schema = pl.DataFrame(schema=COLUMNS).to_arrow().schema
    rows = _rows(metadata, counts)
    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        while chunk := list(islice(rows, CHUNK)):
            writer.write_table(pl.DataFrame(chunk, schema=COLUMNS).to_arrow().cast(schema))
            chunk.clear()  # it would else be held until the next one is complete
        writer.add_key_value_metadata({"source": source, "rejected": str(counts["rejected"])})
    if counts["rejected"] > TOLD:
        log.warning("%s: %d more rows are not valid pairs", metadata, counts["rejected"] - TOLD)
    if not counts["pairs"]:
        path.unlink()  # else the next command would find an index that is up to date, and say nothing
        raise DataFileError(f"{metadata}: has no valid pair")


def _rows(metadata: Path, counts: Counter[str]) -> Iterator[Row]:
    """Yield a row of the index for each pair of metadata.jsonl; bad lines are counted, and the first of them logged.

    Of the lines with one pair_id the first counts, as for every reader of pairs.
    """
    said: dict[str, int] = {}
    place = 0
    with opened(metadata) as file:
        for number, line in enumerate(raw_lines(file, metadata), 1):
            here, place = place, place + len(line)
            if not line.strip():
                continue
            where = f"{metadata}:{number}"
            try:
                pair = pair_of_line(line, where)
                is_same = is_repeat(said, pair)
                fault = f"{where}: {TWICE}" if is_same is False else None
            except SchemaError as error:
                is_same, fault = False, str(error)
            if fault:
                counts["rejected"] += 1
                if counts["rejected"] <= TOLD:
                    log.warning("%s", fault)
            if is_same is not None:
                continue
            counts["pairs"] += 1
            values: Row = {name: getattr(pair, name, None) for name in COLUMNS}
            # Records hold whole numbers of any size, and polars refuses a chunk with one that Int64 cannot hold.
            for name in ("seed", "width", "height"):
                if values[name] is not None and values[name] >= 1 << 63:
                    values[name] = None
            details = pair.settings.get("details")
            yield {
                **values,
                "categories": list(pair.categories),
                "fingerprint": str(pair.settings.get("fingerprint", "")),
                "seconds": _number(pair.settings.get("seconds")),
                "cost_usd": _number(details.get("cost_usd") if isinstance(details, dict) else None),
                "place": here,
                "length": len(line),
            }
    # Records are found again by their place in bytes, which another encoding or a byte-order mark would shift.
    if place != metadata.stat().st_size:
        raise DataFileError(f"{metadata}: expected UTF-8 without a mark at its beginning, as Step 2 writes it")


def _number(value: Any) -> float | None:
    """Return a number of a record's settings, which may be anything; None where it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # 10 ** 400
        return None
    return number if math.isfinite(number) else None
