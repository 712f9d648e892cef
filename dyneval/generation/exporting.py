"""GenDB in other forms: Parquet shards with the images inside, and WebDataset tar files.

Every image is checked before it is exported (it decodes and has the recorded SHA-256); what fails is counted and named.
Without that check a damaged image would travel into every copy of the data set. A shard is written under a temporary
name and renamed, so a killed export leaves only whole shards.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from dyneval.errors import GenerationError, ImageError
from dyneval.files.atomic import atomic_write
from dyneval.generation import saving
from dyneval.generation.index import ALL, Index, Selection
from dyneval.hashing import short_id
from dyneval.records import PairRecord
from dyneval.structs import Row
from dyneval.work.ahead import ahead

log = logging.getLogger(__name__)

# About the size that the Hub's own tools cut data sets into; readers fetch whole shards.
SHARD_BYTES = 500_000_000
ROW_GROUP = 100
"""Rows; few, so that a reader of one image need not read hundreds."""
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
"""Gets every record that is exported."""


def read_records(folder: Path, counts: ExportCounts, selection: Selection = ALL) -> Iterator[PairRecord]:
    """Return the pairs of `folder`/metadata.jsonl; invalid rows are counted, and logged when the index is made.

    Args:
        folder: the GenDB.
        counts: its `rejected` grows by the number of invalid rows, at once.
        selection: which pairs, in the order of the file.

    Raises:
        DataFileError: the file is missing, or has no pair.
        GenerationError: no pair is selected.
    """
    index = Index(folder)
    counts.rejected += index.rejected
    return index.records(selection)


def _read_pair(folder: Path, record: PairRecord) -> ExportedPair | str:
    """Read the files of a record; returns the reason where they are not as recorded."""
    try:
        image, beside = saving.read(folder, saving.recorded(record.file_name, record.sha256, record.settings))
    except ImageError as error:
        return f"{record.pair_id}: {error}"
    texts = {}
    for suffix, path in beside.items():
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_SIDECAR + 1)  # never more: the file may have no end
            if len(content) > LARGEST_SIDECAR:
                return f"{record.pair_id}: {path}: a sidecar of more than {LARGEST_SIDECAR} bytes"
            texts[suffix] = content.decode("utf-8")
        except OSError as error:
            return f"{record.pair_id}: {path}: a sidecar that cannot be read ({error})"
        except UnicodeDecodeError as error:
            return f"{record.pair_id}: {path}: a sidecar that is not UTF-8 text ({error})"
    return ExportedPair(record, image, texts)


def write_parquet(
    folder: Path,
    output: Path,
    shard_bytes: int = SHARD_BYTES,
    selection: Selection = ALL,
    on_exported: OnExported = lambda record: None,
) -> ExportCounts:
    """Write train-00000-of-NNNNN.parquet files that `datasets.load_dataset` reads with an Image column.

    The columns `settings` and `sidecars` are JSON texts.

    Args:
        folder: the GenDB.
        output: folder to write.
        shard_bytes: a shard ends when its images have as many bytes.
        selection: which pairs.
        on_exported: called with each record.

    Raises:
        GenerationError: `output` holds Parquet files already, or no pair can be exported.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value

    names = ("pair_id", "prompt_id", "prompt", "generation_model", "sha256", "settings", "sidecars")
    numbers = {name: Value("int64") for name in ("tier", "seed", "width", "height")}
    texts = dict.fromkeys(names, Value("string"))
    schema = Features({"image": Image(), **texts, "categories": List(Value("string")), **numbers}).arrow_schema
    counts = ExportCounts()
    pairs = _numbered_pairs(folder, output, "parquet", shard_bytes, selection, counts, on_exported)
    for number, shard in groupby(pairs, itemgetter(0)):
        part = output / f"part-{number:05d}.parquet"
        with atomic_write(part, "wb") as file, pq.ParquetWriter(file, schema) as writer:
            # from_pylist passes over names that are not in the schema, such as file_name.
            while rows := [
                {**_portable(pair), "image": {"bytes": pair.image, "path": pair.record.file_name}}
                for _, pair in islice(shard, ROW_GROUP)
            ]:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows.clear()  # a hundred images would else be held until the next hundred is read
    # The names say how many shards there are, which is known only when all are written.
    for number in range(counts.shards):
        part = output / f"part-{number:05d}.parquet"
        part.rename(output / f"train-{number:05d}-of-{counts.shards:05d}.parquet")
    return counts


def write_webdataset(
    folder: Path, output: Path, shard_bytes: int = SHARD_BYTES, selection: Selection = ALL
) -> ExportCounts:
    """Write part-00000.tar, ...: for each pair its image and, under the same key, its record as .json.

    `settings` and `sidecars` of the record are JSON texts, so that loaders which infer columns agree on them.

    Args:
        folder: the GenDB.
        output: folder to write.
        shard_bytes: a shard ends when its images have as many bytes.
        selection: which pairs.

    Raises:
        GenerationError: `output` holds tar files already, or no pair can be exported.
    """
    counts = ExportCounts()
    pairs = _numbered_pairs(folder, output, "tar", shard_bytes, selection, counts)
    for number, shard in groupby(pairs, itemgetter(0)):
        part = output / f"part-{number:05d}.tar"
        with atomic_write(part, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
            for _, pair in shard:
                key = pair.record.pair_id
                # WebDataset takes all behind the first dot for the extension. The digits keep "a.b" and "a_b" apart.
                if "." in key:
                    key = f"{key.replace('.', '_')}-{short_id(key, 8)}"
                record = json.dumps(_portable(pair), ensure_ascii=False).encode("utf-8")
                members = {Path(pair.record.file_name).suffix: pair.image, ".json": record}
                for suffix, content in members.items():
                    member = tarfile.TarInfo(key + suffix)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return counts


def _portable(pair: ExportedPair) -> Row:
    """Return the record with JSON texts in the place of objects, whose keys differ from model to model."""
    row = {"seed": None, "tier": None, **pair.record.to_dict()}
    texts = {"settings": pair.record.settings, "sidecars": pair.sidecars}
    return {**row, **{name: json.dumps(value, ensure_ascii=False) for name, value in texts.items()}}


def _numbered_pairs(
    folder: Path,
    output: Path,
    suffix: str,
    shard_bytes: int,
    selection: Selection,
    counts: ExportCounts,
    on_exported: OnExported = lambda record: None,
) -> Iterator[tuple[int, ExportedPair]]:
    """Yield the pairs whose files are as recorded, each with the number of its shard; count and log the others.

    Images are read and checked ahead, in a thread a core.
    """
    if any(output.glob(f"*.{suffix}")):
        raise GenerationError(f"{output} holds .{suffix} files already; choose another folder")
    tasks = (partial(_read_pair, folder, record) for record in read_records(folder, counts, selection))
    size = 0
    for found in ahead(tasks, os.cpu_count() or 1):
        if isinstance(found, str):
            counts.rejected += 1
            log.warning("%s", found)
            continue
        if not counts.shards or size >= shard_bytes:
            counts.shards, size = counts.shards + 1, 0
        size += len(found.image)
        counts.written += 1
        on_exported(found.record)
        yield counts.shards - 1, found
    if not counts.written:
        raise GenerationError(f"none of {counts.rejected} pairs can be exported; the reasons stand above")
