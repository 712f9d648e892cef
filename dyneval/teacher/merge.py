"""Puts the annotation files of shards (`--shard i/n`) together in the folder of the whole."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from dyneval.storage import DataFileError, JsonlStore, atomic_write, read_jsonl
from dyneval.teacher.prompts import WORKFLOWS, Workflow, prompt_version
from dyneval.teacher.runner import KEYS

logger = logging.getLogger(__name__)


def merge(output: Path) -> dict[str, dict[str, int]]:
    """Add what the shards below `output`/shards have and the whole lacks; done again, it adds nothing.

    The shards stay as they are. Rejects are taken over for what no part has annotated.

    Returns:
        Records added, in the file and rejected, by workflow.

    Raises:
        DataFileError: there are no shards, a run is still writing to one, or a file cannot be read.
    """
    parts = sorted(path for path in (output / "shards").glob("*-of-*") if path.is_dir())
    if not parts:
        raise DataFileError(f"{output / 'shards'}: no shards; they are written by runs with --shard")
    present = [name for name in WORKFLOWS if any((part / f"{name}.jsonl").exists() for part in parts)]
    return {name: _merge(name, output, parts) for name in present}


def _merge(name: Workflow, output: Path, parts: list[Path]) -> dict[str, int]:
    key = KEYS[name]
    rejects: dict[str, dict[str, object]] = {}
    with JsonlStore(output / f"{name}.jsonl", key, version=prompt_version(name), keep_rejects=True) as whole:
        for path in (part / f"{name}.jsonl" for part in parts):
            if path.exists():
                _append(path, key, whole)
            rejected = path.with_name(f"{name}.rejects.jsonl")
            if rejected.exists():
                rejects |= {str(row.get(key)): row for row in read_jsonl(rejected)}
        left = [row for name, row in rejects.items() if name not in whole.done]
        with atomic_write(whole.rejects_path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in left)
        return {"added": whole.written, "in_file": len(whole.done), "rejected": len(left)}


def _append(path: Path, key: str, whole: JsonlStore) -> None:
    with JsonlStore(path, key, version=whole.version, keep_rejects=True) as part:  # its lock: no run writes to it now
        for name in sorted(part.done - whole.done):
            if (row := part.get(name)) is not None:
                whole.append(row)
    logger.info("%s: %d records", path, len(part.done))
