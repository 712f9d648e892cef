"""Files of runs that do a part of the prompts: merged into those of the whole, under its lock."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from dyneval import storage

log = logging.getLogger(__name__)


def merge_left_overs(root: Path) -> None:
    """Merge the files of parts whose process was killed; those of running ones are locked and passed over."""
    for pairs in sorted((root / ".shards").glob("metadata-*-of-*.jsonl")):
        if not pairs.name.endswith(".rejects.jsonl"):
            merge(root, pairs, pairs.with_name(pairs.name.replace("metadata-", "refused-", 1)), wait=0)


def merge(root: Path, pairs: Path, refusals: Path, wait: float) -> None:
    """Append the rows of one part to the whole files and remove it, unless one of them is in use for `wait` seconds."""
    try:
        for part, whole in ((refusals, root / "refused.jsonl"), (pairs, root / "metadata.jsonl")):
            _append_all(part, whole, wait)
    except storage.DataFileError as error:
        log.warning("%s is not merged yet (%s); the next run will do it", pairs, error)


def _append_all(part: Path, whole: Path, wait: float) -> None:
    with (
        storage.JsonlStore(part, "pair_id") as source,
        storage.JsonlStore(whole, "pair_id", wait=wait, keep_rejects=True) as store,
    ):
        superseded = not source.done.isdisjoint(store.done)
        for row in storage.read_jsonl(part):
            store.append(row)
        if superseded:
            keep_last(whole)
        part.unlink()


def keep_last(path: Path) -> None:
    """Rewrite a JSONL file with only the last row of each pair_id."""
    last = {str(row["pair_id"]): number for number, row in enumerate(storage.read_jsonl(path))}
    with storage.atomic_write(path) as file:
        for number, row in enumerate(storage.read_jsonl(path)):
            if last[str(row["pair_id"])] == number:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
