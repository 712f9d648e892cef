"""The pairs of a metadata.jsonl, a part of them where asked, each checked; what does not fit is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from dyneval.errors import DataFileError, SchemaError
from dyneval.files import jsonl
from dyneval.files.opening import byte_lines, opened
from dyneval.files.parts import Shard
from dyneval.records import PairRecord


def read_pairs(
    metadata: Path, report: Callable[[str, str], None], shard: Shard | None = None, limit: int | None = None
) -> Iterator[PairRecord]:
    """Yield the pairs of `metadata`, in order.

    Args:
        metadata: a metadata.jsonl.
        report: called with pair_id (or the line number) and reason for every row that cannot be used.
        shard: take only this part.
        limit: take only so many.

    Raises:
        DataFileError: the file is missing.
    """
    return islice(_pairs(metadata, report, shard), limit)


def _lines(metadata: Path) -> Iterator[tuple[int, bytes]]:
    with opened(metadata) as file:
        yield from byte_lines(file, metadata)


def _pairs(metadata: Path, report: Callable[[str, str], None], shard: Shard | None) -> Iterator[PairRecord]:
    seen: set[str] = set()
    for number, line in _lines(metadata):
        name = f"line {number}"
        try:
            row = jsonl.parse(metadata, number, line)
            name = str(row.get("pair_id") or name)
            pair = PairRecord.from_dict(row, f"{metadata}:{number}")
        except (DataFileError, SchemaError) as error:
            report(name, str(error))
            continue
        if shard is not None and not shard.holds(pair.prompt_id):
            continue
        if not pair.prompt.strip():
            report(name, f"{metadata}:{number}: the prompt is empty")
        elif pair.pair_id in seen:
            report(name, f"{metadata}:{number}: this pair_id stands there twice; the first is taken")
        else:
            seen.add(pair.pair_id)
            yield pair
