"""Split a run over several machines (`--shard i/n`), and put the files of the shards together.

All pairs of a prompt are in one shard, and in the shard of the same number in every step. So a machine that draws shard
1/4 holds the images that it later annotates and scores as shard 1/4. Steps 3 and 5 write a shard below `shards/i-of-n`
in the output folder; Step 2 has files for each run, see `dyneval.generation.parts`. Merging can be repeated: rows that
are there already are not added again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dyneval.errors import DataFileError, SettingError
from dyneval.files.store import JsonlStore, read_rejects, rejects_beside, write_rejects
from dyneval.hashing import part_of
from dyneval.records import Reject
from dyneval.structs import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` (from 1) of `count`, by prompt: all images of a prompt are in one shard."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "i/n", counted from 1. Raises SettingError unless 1 <= i <= n."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise SettingError(f"shard {text!r}: expected i/n with 1 <= i <= n, such as 1/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, prompt_id: str) -> bool:
        """True when the pairs of this prompt belong to the shard."""
        return part_of(prompt_id, "shard", self.count) == self.index - 1

    def folder(self, output: Path) -> Path:
        """The folder for the files of this shard, below the output folder of the whole run."""
        return output / "shards" / f"{self.index}-of-{self.count}"


@dataclass(frozen=True, slots=True)
class MergeResult:
    """Counts of merging one file: rows added, rows in it afterwards, rows that no shard could make."""

    added: int
    in_file: int
    rejected: int


def shard_folders(output: Path) -> list[Path]:
    """The folders of the shards below `output`. Raises DataFileError where there are none."""
    parts = sorted(path for path in (output / "shards").glob("*-of-*") if path.is_dir())
    if not parts:
        raise DataFileError(f"{(output / 'shards').absolute()}: no parts; they are written by runs with --shard")
    return parts


def missing_shards(parts: Sequence[Path]) -> list[str]:
    """Names ("2-of-4") of the shards that are missing.

    Raises:
        DataFileError: the shards are of different divisions, such as 1-of-2 beside 1-of-4, which share prompts.
    """
    counts = {int(path.name.partition("-of-")[2]) for path in parts}
    if len(counts) > 1:
        raise DataFileError(f"{parts[0].parent}: parts of different divisions ({', '.join(p.name for p in parts)})")
    count, present = counts.pop(), {path.name for path in parts}
    return [name for index in range(1, count + 1) if (name := f"{index}-of-{count}") not in present]


def merge_file(
    whole: Path, record: type[Record], parts: Sequence[Path], *, version: str | None = None, content: str | None = None
) -> MergeResult:
    """Add rows that `whole` lacks from the shards' files of the same name; a second call adds nothing.

    The files of the shards stay as they are. Rejects are taken over for rows that no shard has made.

    Args:
        whole: the file to add to.
        record: the type of its rows.
        parts: folders of the shards.
        version: only rows with this prompt_version count; None: all rows.
        content: name of a field that must be the same in two rows with the same key.

    Raises:
        DataFileError: a run is still writing to one of the files, one cannot be read, or a row that is there already
            has another `content` than the shard's.
    """
    rejects: dict[str, Reject] = {}
    with JsonlStore(whole, record, version=version, keep_rejects=True) as store:
        for path in (part / whole.name for part in parts):
            if path.exists():
                _append(path, store, content)
            rejects |= read_rejects(rejects_beside(path), store.key)
        left = [reject for name, reject in rejects.items() if name not in store.done]
        write_rejects(store.rejects_path, left, store.key)
        return MergeResult(store.written, len(store.done), len(left))


def _append(path: Path, whole: JsonlStore[Any], content: str | None) -> None:
    # Opening the shard's file takes its lock, so no run can be writing to it.
    with JsonlStore(path, whole.record, version=whole.version, keep_rejects=True) as part:
        for name in sorted(part.done):
            if name not in whole.done:
                if (line := part.line(name)) is not None:
                    whole.append_line(name, line)
            elif content and getattr(part.get(name), content, None) != getattr(whole.get(name), content, None):
                raise DataFileError(
                    f"{whole.path}: has another record of {name} than {path}; merge into another file, or remove "
                    "the one that is out of date"
                )
    logger.info("%s: %d records", path, len(part.done))
