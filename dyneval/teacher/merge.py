"""Puts the annotation files of shards (`--shard i/n`) together in the folder of the whole run.

Each machine annotates its shard below `output`/shards. `dyneval merge annotations` calls `merge`, and `check_complete`
to make sure that no shard is missing: without it, a shard that never ran would look like pairs nobody wanted.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from dyneval.errors import DataFileError
from dyneval.files.jsonl import scan
from dyneval.files.pairs import read_pairs
from dyneval.files.parts import merge_file, shard_folders
from dyneval.files.store import read_rejects, rejects_beside
from dyneval.records import ANNOTATIONS, WORKFLOWS, PairRecord, key_of
from dyneval.teacher.prompts import prompt_version
from dyneval.teacher.stale import StaleWork, annotation_store

logger = logging.getLogger(__name__)


def merge(output: Path, metadata: Path | None = None) -> dict[str, dict[str, int]]:
    """Add what the shards below `output`/shards have and the whole lacks, see `dyneval.files.parts.merge_file`.

    Args:
        output: folder of the whole.
        metadata: the pairs; rows of the whole that were made for another prompt or image are retired first.

    Returns:
        Records added, in the file and rejected, by workflow.

    Raises:
        DataFileError: there are no shards, a run is still writing to one, or a file cannot be read.
    """
    parts = shard_folders(output)
    present = [name for name in WORKFLOWS if any((part / f"{name}.jsonl").exists() for part in parts)]
    if metadata is not None:
        # A stale row has the key of the row that replaces it, and merging adds only keys that the whole lacks.
        names = [name for name in present if (output / f"{name}.jsonl").exists()]
        with ExitStack() as stack:
            stores = {name: stack.enter_context(annotation_store(output, name)) for name in names}
            stale = StaleWork(metadata.parent, stores, {name: {} for name in names}, {name: set() for name in names})
            for pair in read_pairs(metadata, PairRecord, lambda _: None):
                stale.retire(pair)
    return {
        name: asdict(merge_file(output / f"{name}.jsonl", ANNOTATIONS[name], parts, version=prompt_version(name)))
        for name in present
    }


def check_complete(output: Path, metadata: Path) -> None:
    """Check that each pair of `metadata` is annotated or rejected in all four workflows.

    Args:
        output: folder of the whole, after `merge`.
        metadata: all pairs, of every shard.

    Raises:
        DataFileError: some are neither, since a shard has not done its part; or a file cannot be read.
    """
    settled = {}
    for name in WORKFLOWS:
        path, current, key = output / f"{name}.jsonl", prompt_version(name), ANNOTATIONS[name].KEY
        # Rows of an earlier wording of the requests do not count: the next run would ask for them again.
        keys = {found for _, found, version in scan(path, key) if version == current} if path.exists() else set()
        settled[name] = keys | read_rejects(rejects_beside(path), key).keys()
    open_pairs = [
        pair.pair_id
        for pair in read_pairs(metadata, PairRecord, lambda row: logger.warning("%s: %s", row.key, row.reason))
        if any(key_of(name, pair) not in settled[name] for name in WORKFLOWS)
    ]
    if open_pairs:
        raise DataFileError(
            f"{output}: {len(open_pairs)} pairs, such as {open_pairs[0]}, are neither annotated nor rejected; there "
            f"are the shards {', '.join(part.name for part in shard_folders(output))}: run those again that have not "
            "finished, then merge again"
        )
