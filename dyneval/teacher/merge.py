"""Puts the annotation files of shards (`--shard i/n`) together in the folder of the whole."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from dyneval.shards import merge_file, shard_folders
from dyneval.teacher.prompts import WORKFLOWS, prompt_version
from dyneval.teacher.runner import KEYS


def merge(output: Path) -> dict[str, dict[str, int]]:
    """Add what the shards below `output`/shards have and the whole lacks, see `dyneval.shards.merge_file`.

    Returns:
        Records added, in the file and rejected, by workflow.

    Raises:
        DataFileError: there are no shards, a run is still writing to one, or a file cannot be read.
    """
    parts = shard_folders(output)
    present = [name for name in WORKFLOWS if any((part / f"{name}.jsonl").exists() for part in parts)]
    return {
        name: asdict(merge_file(output / f"{name}.jsonl", KEYS[name], parts, version=prompt_version(name)))
        for name in present
    }
