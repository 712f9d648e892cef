"""Parts of a run (`--shard i/n`) that work beside each other, and putting their files together.

All pairs of a prompt are in one part, and in the part of the same number in every step: a machine that draws part 1/4
finds there what it annotates and scores as part 1/4. Steps 3 and 5 write a part below `shards/i-of-n` in the folder of
the whole; Step 2 has files a run, see `dyneval.generation.parts`.
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
    """Part `index` (from 1) of `count`, by prompt: all images of a prompt are in one part."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "i/n", counted from 1. Raises SettingError."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise SettingError(f"shard {text!r}: expected i/n with 1 <= i <= n, such as 1/4")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, prompt_id: str) -> bool:
        """True when the pairs of this prompt belong to the part."""
        return part_of(prompt_id, "shard", self.count) == self.index - 1

    def folder(self, output: Path) -> Path:
        """Where the files of this part are written, below the output folder of the whole."""
        return output / "shards" / f"{self.index}-of-{self.count}"


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What merging one file brought: rows added, rows in it now, rows that no part could make."""

    added: int
    in_file: int
    rejected: int


def shard_folders(output: Path) -> list[Path]:
    """The folders of the parts below `output`. Raises DataFileError where there are none."""
    parts = sorted(path for path in (output / "shards").glob("*-of-*") if path.is_dir())
    if not parts:
        raise DataFileError(f"{(output / 'shards').absolute()}: no parts; they are written by runs with --shard")
    return parts


def missing_shards(parts: Sequence[Path]) -> list[str]:
    """Names ("2-of-4") of the parts that are not there.

    Raises:
        DataFileError: the parts are of different divisions, such as 1-of-2 beside 1-of-4.
    """
    counts = {int(path.name.partition("-of-")[2]) for path in parts}
    if len(counts) > 1:
        raise DataFileError(f"{parts[0].parent}: parts of different divisions ({', '.join(p.name for p in parts)})")
    count, present = counts.pop(), {path.name for path in parts}
    return [name for index in range(1, count + 1) if (name := f"{index}-of-{count}") not in present]


def merge_file(
    whole: Path, record: type[Record], parts: Sequence[Path], *, version: str | None = None, content: str | None = None
) -> MergeResult:
    """Add the rows that the parts' files of the same name have and `whole` lacks; done again, it adds nothing.

    The parts stay as they are. Rejects are taken over for what no part has made.

    Args:
        whole: the file to add to.
        record: what its rows are.
        parts: folders of the parts.
        version: only rows with this prompt_version count.
        content: a field that must be the same in rows of one key.

    Raises:
        DataFileError: a run is still writing to one of the files, one cannot be read, or a row that is there already
            has another `content` than the part's.
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
    # Opening the part takes its lock: no run writes to it now.
    with JsonlStore(path, whole.record, version=whole.version, keep_rejects=True) as part:
        for name in sorted(part.done):
            if name not in whole.done:
                if (line := part.line(name)) is not None:
                    whole.append_line(name, line)
            elif content is not None and _field(part, name, content) != _field(whole, name, content):
                raise DataFileError(
                    f"{whole.path}: has another record of {name} than {path}; merge into another file, or remove "
                    "the one that is out of date"
                )
    logger.info("%s: %d records", path, len(part.done))


def _field(store: JsonlStore[Any], key: str, field: str) -> object:
    return getattr(store.get(key), field, None)
