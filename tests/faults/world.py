"""What the fault bench must know of a step: a door, its inputs, what it leaves, and what its summary counts.

Every step runs once undisturbed; its outputs are the inputs of the next, and what disturbed runs are compared with.
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from dyneval.files.jsonl import read_jsonl

from .door import Broken, Door

PAIRS = 30
_PAGE = 4096


class Count(NamedTuple):
    """What a summary says: records that were there before, and records made by this run."""

    there: int
    made: int


class Step(ABC):
    """One step in a world of its own.

    Attributes:
        heavy: a run loads torch and costs many seconds, so it is disturbed at night only.
        synced: files are on the disk before they count, so that a power failure leaves no zeros in them.
    """

    name: ClassVar[str]
    heavy: ClassVar[bool] = False
    synced: ClassVar[bool] = False

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def arguments(self, output: Path) -> list[str | Path]:
        """The command line of the door behind the interpreter."""

    def environment(self) -> Mapping[str, str]:
        """Variables that the door reads."""
        return {}

    @abstractmethod
    def content(self, output: Path) -> dict[str, Any]:
        """What the outputs say, without times; rows as sorted lists, so that one too many shows."""

    def images(self) -> list[Path]:
        """The image files that the step reads."""
        return []

    def records(self, output: Path) -> list[Path]:
        """The files that records are appended to."""
        return []

    def reopen(self, output: Path) -> list[Path]:
        """Turn a finished output into one that was stopped at its end; the files of which one may then be damaged."""
        files = [path for path in self.records(output) if path.exists()]
        return files or [path for path in sorted(output.rglob("*")) if path.is_file()]

    def finished(self, output: Path) -> int:
        """Number of whole records in the output."""
        return sum(len(whole_rows(path)) for path in self.records(output))

    def counted(self, output: Path, door: Door) -> Count | None:
        """What the run said in its summary; None where it does everything anew."""
        return None

    def lost_images(self, output: Path, door: Door) -> int:
        """How many images the summary says could not be read."""
        raise NotImplementedError

    def start(self, output: Path, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Door:
        """Start the door on `output`."""
        return Door(self.arguments(output), output, {**self.environment(), **(environment or {})}, prefix)

    @cached_property
    def reference(self) -> Path:
        """Output of the undisturbed run."""
        output = self.world.folder / self.name
        door = self.start(output)
        door.wait_for_work()
        begun = time.monotonic()
        if door.wait():
            raise Broken(f"the undisturbed run of {self.name} failed: {door.errors[-3000:]}")
        self.working_seconds = time.monotonic() - begun
        return output

    @cached_property
    def expected(self) -> dict[str, Any]:
        """Content of the undisturbed run."""
        return self.content(self.reference)

    @cached_property
    def bytes(self) -> int:
        """Bytes that the undisturbed run's files take on a disk."""
        files = [path for path in self.reference.rglob("*") if path.is_file()]
        return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in files)


class World:
    """A folder with the inputs of the first step and the undisturbed outputs of all of them, made when needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps: dict[type[Step], Step] = {}

    def step(self, kind: type[Step]) -> Step:
        """The step in this world."""
        if kind not in self._steps:
            self._steps[kind] = kind(self)
        return self._steps[kind]

    @cached_property
    def prompts(self) -> Path:
        """Prompts of the demo; a few are doubled or too short."""
        from dyneval.demo.prompts import write_prompts_file

        path = self.folder / "prompts.txt"
        write_prompts_file(path, 4 * PAIRS, 0)
        return path

    @cached_property
    def student(self) -> Path:
        """A random student."""
        from dyneval.demo.tiny_model import build_tiny_model

        path = self.folder / "student"
        build_tiny_model(path, task_tokens=True)
        return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; none where it is missing."""
    return list(read_jsonl(path)) if path.exists() else []


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that may end in half a line."""
    return list(_parsed(path.read_bytes().split(b"\n")[:-1])) if path.exists() else []


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def sorted_rows(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as text, in an order that doesn't depend on who was first."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    """A row without some of its fields."""
    return {name: value for name, value in row.items() if name not in names}


def digests(folder: Path, *but: str) -> dict[str, Any]:
    """SHA-256 of every visible file below a folder, by its path there."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(paths.items())
        if name not in but and not any(part.startswith(".") for part in Path(name).parts)
    }
