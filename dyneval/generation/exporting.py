"""GenDB in other forms: Parquet shards with the images inside, and WebDataset tar files.

Every image is checked before it is exported (it decodes and has the recorded SHA-256); what fails is counted and named.
A shard is written under a temporary name and renamed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dyneval.errors import GenerationError, ImageError
from dyneval.files.atomic import atomic_write
from dyneval.generation import saving
from dyneval.generation.curating import saved_image_of
from dyneval.generation.index import ALL, Index, Selection
from dyneval.hashing import short_id
from dyneval.records import PairRecord
from dyneval.structs import Row
from dyneval.work.ahead import ahead

log = logging.getLogger(__name__)

SHARD_BYTES = 500_000_000
ROW_GROUP = 100
"""Rows; small, so that who wants one image need not read hundreds."""
LARGEST_SIDECAR = 1 << 20
"""Bytes; a row group holds a hundred rows in memory."""


@dataclass(slots=True)
class ExportCounts:
    """Outcome of an export: pairs written, pairs that could not be, shards."""

    written: int = 0
    rejected: int = 0
    shards: int = 0


class ExportedPair(NamedTuple):
    """A pair ready for export: its record, the bytes of its image, the texts of its sidecars by suffix."""

    record: PairRecord
    image: bytes
    sidecars: dict[str, str]


OnExported = Callable[[PairRecord], None]
"""Gets every record that was exported."""
AddPair = Callable[[ExportedPair], None]


def read_records(folder: Path, counts: ExportCounts, selection: Selection = ALL) -> Iterator[PairRecord]:
    """The pairs of `folder`/metadata.jsonl; rows that are none are counted, and logged when the index is made.

    Raises:
        DataFileError: the file is missing, or has no pair.
        GenerationError: no pair is meant.
    """
    index = Index(folder)
    counts.rejected += index.rejected
    return index.records(selection)


def read_items(folder: Path, counts: ExportCounts, selection: Selection = ALL) -> Iterator[ExportedPair]:
    """Yield the pairs whose files are as recorded; the others are counted and logged.

    Images are read and checked ahead, in a thread a core.
    """
    tasks = (partial(_item, folder, record) for record in read_records(folder, counts, selection))
    for item in ahead(tasks, os.cpu_count() or 1):
        if isinstance(item, str):
            counts.rejected += 1
            log.warning("%s", item)
        else:
            yield item


def _item(folder: Path, record: PairRecord) -> ExportedPair | str:
    try:
        image, beside = saving.read(folder, saved_image_of(record))
        return ExportedPair(record, image, {suffix: _text(path) for suffix, path in beside.items()})
    except ImageError as error:
        return f"{record.pair_id}: {error}"


def _text(path: Path) -> str:
    """A sidecar. Raises ImageError: it is no text, or too long a one."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_SIDECAR + 1)
    except OSError as error:
        raise ImageError(f"{path}: a sidecar that cannot be read ({error})") from error
    if len(content) > LARGEST_SIDECAR:
        raise ImageError(f"{path}: a sidecar of more than {LARGEST_SIDECAR} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError(f"{path}: a sidecar that is no UTF-8 text ({error})") from error


def write_parquet(
    folder: Path,
    output: Path,
    shard_bytes: int = SHARD_BYTES,
    selection: Selection = ALL,
    seen: OnExported = lambda record: None,
) -> ExportCounts:
    """Write train-00000-of-NNNNN.parquet files that `datasets.load_dataset` reads with an Image column.

    `settings` and `sidecars` are JSON texts.

    Raises:
        GenerationError: `output` holds Parquet files already, or no pair can be exported.
    """
    schema = _features().arrow_schema
    items = partial(read_items, folder, selection=selection)
    counts = _write_shards(items, output, "parquet", shard_bytes, lambda path: _parquet_shard(path, schema), seen)
    for number in range(counts.shards):
        part = output / f"part-{number:05d}.parquet"
        part.rename(output / f"train-{number:05d}-of-{counts.shards:05d}.parquet")
    return counts


@contextmanager
def _parquet_shard(path: Path, schema: Any) -> Iterator[AddPair]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held: list[Row] = []

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(held, schema=schema))
        held.clear()

    def add(item: ExportedPair) -> None:
        held.append(_parquet_row(item))
        if len(held) == ROW_GROUP:
            flush()

    with atomic_write(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        yield add
        if held:
            flush()


def _features() -> Any:
    from datasets import Features, Image, List, Value

    text = Value("string")
    names = ("pair_id", "prompt_id", "prompt", "generation_model", "sha256", "settings", "sidecars")
    numbers = {name: Value("int64") for name in ("tier", "seed", "width", "height")}
    return Features({"image": Image(), **dict.fromkeys(names, text), "categories": List(text), **numbers})


def _portable(item: ExportedPair) -> Row:
    """The record with JSON texts in the place of objects, whose keys differ from model to model, and its sidecars."""
    row = {"seed": None, "tier": None, **item.record.to_dict()}
    return {**row, "settings": _json(item.record.settings), "sidecars": _json(item.sidecars)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parquet_row(item: ExportedPair) -> Row:
    row = _portable(item)
    return {**row, "image": {"bytes": item.image, "path": row.pop("file_name")}}


def write_webdataset(
    folder: Path, output: Path, shard_bytes: int = SHARD_BYTES, selection: Selection = ALL
) -> ExportCounts:
    """Write part-00000.tar, ...: for each pair its image and, under the same key, its record as .json.

    `settings` and `sidecars` of the record are JSON texts, so that loaders which infer columns agree on them. Dots in
    the key would begin the extension: they become underscores, with 8 hex digits of the pair_id behind them.

    Raises:
        GenerationError: `output` holds tar files already, or no pair can be exported.
    """
    return _write_shards(partial(read_items, folder, selection=selection), output, "tar", shard_bytes, _tar_shard)


@contextmanager
def _tar_shard(path: Path) -> Iterator[AddPair]:
    with atomic_write(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        yield lambda item: _add_sample(tar, item)


def _add_sample(tar: tarfile.TarFile, item: ExportedPair) -> None:
    pair_id = item.record.pair_id
    key = f"{pair_id.replace('.', '_')}-{short_id(pair_id, 8)}" if "." in pair_id else pair_id
    record = _json(_portable(item)).encode("utf-8")
    members = {Path(item.record.file_name).suffix: item.image, ".json": record}
    for suffix, content in members.items():
        member = tarfile.TarInfo(key + suffix)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))


def _write_shards(
    read: Callable[[ExportCounts], Iterator[ExportedPair]],
    output: Path,
    suffix: str,
    shard_bytes: int,
    open_shard: Callable[[Path], AbstractContextManager[AddPair]],
    seen: OnExported = lambda record: None,
) -> ExportCounts:
    if any(output.glob(f"*.{suffix}")):
        raise GenerationError(f"{output} holds .{suffix} files already; choose another folder")
    counts = ExportCounts()
    items = read(counts)
    item = next(items, None)
    while item is not None:
        size = 0
        with open_shard(output / f"part-{counts.shards:05d}.{suffix}") as add:
            while item is not None and size < shard_bytes:
                add(item)
                seen(item.record)
                size += len(item.image)
                counts.written += 1
                item = next(items, None)
        counts.shards += 1
    if not counts.written:
        raise GenerationError(f"none of {counts.rejected} pairs can be exported; the reasons stand above")
    return counts
