"""The steps as the fault bench sees them: a door, its inputs, what it leaves, and what its summary counts.

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

from dyneval.storage import read_json, read_jsonl

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
        resumes: it appends records and skips those that are there; else it does all of its work again.
        heavy: a run costs many seconds (torch), so fewer of them are disturbed.
    """

    name: ClassVar[str]
    resumes: ClassVar[bool] = True
    heavy: ClassVar[bool] = False

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def arguments(self, output: Path) -> list[str | Path]:
        """The command line of the door behind the interpreter."""

    @abstractmethod
    def content(self, output: Path) -> dict[str, Any]:
        """What the outputs say, without times; rows as sorted lists, so that one too many shows."""

    def images(self) -> list[Path]:
        """The image files that the step reads."""
        return []

    def records(self, output: Path) -> list[Path]:
        """The files that records are appended to."""
        return []

    def finished(self, output: Path) -> int:
        """Number of whole records in the output."""
        return sum(len(_whole_rows(path)) for path in self.records(output))

    def counted(self, output: Path, door: Door) -> Count | None:
        """What the run said in its summary; None where it does everything anew."""
        return None

    def lost_images(self, output: Path, door: Door) -> int:
        """How many images the summary says could not be read."""
        raise NotImplementedError

    def start(self, output: Path, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Door:
        """Start the door on `output`."""
        return Door(self.arguments(output), output, environment, prefix)

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


class Prompts(Step):
    """Step 1."""

    name = "1-prompts"
    resumes = False

    def arguments(self, output: Path) -> list[str | Path]:
        """As in the README."""
        flags = ["--jsonl", "--write-dropped", "--quiet"]
        return ["extract_diverse_prompts.py", "--input", self.world.prompts, "--output", output, *flags]

    def content(self, output: Path) -> dict[str, Any]:
        """All files but the report, which says how long the stages took; the summary without that and its own place."""
        summary = _without(read_json(output / "summary.json"), "seconds", "config")
        return _files(output, "report.html") | {"summary.json": summary}


class Generation(Step):
    """Step 2 with a demo model."""

    name = "2-generation"

    def arguments(self, output: Path) -> list[str | Path]:
        """One model, two processes."""
        prompts = self.world.step(Prompts).reference / "prompts.parquet"
        flags = ["--model", "demo-sketcher", "--any-tier", "--limit", str(PAIRS), "--devices", "cpu,cpu"]
        return ["image_gen_scripts/generate.py", "--prompts", prompts, "--output", output, *flags]

    def content(self, output: Path) -> dict[str, Any]:
        """Records, images and sidecars."""
        rows = [row | {"settings": _without(row["settings"], "seconds")} for row in _rows(output / "metadata.jsonl")]
        files = {name: digest for name, digest in _files(output).items() if name.endswith((".png", ".truth.json"))}
        return {"rows": _sorted(rows), "rejects": _rows(output / "metadata.rejects.jsonl"), **files}

    def records(self, output: Path) -> list[Path]:
        """The whole and the parts of runs that were killed."""
        parts = [path for path in output.glob(".parts/metadata-*.jsonl") if ".rejects." not in path.name]
        return [output / "metadata.jsonl", *parts]

    def finished(self, output: Path) -> int:
        """Records whose image is there."""
        rows = [row for path in self.records(output) for row in _whole_rows(path)]
        return sum((output / row["file_name"]).exists() for row in rows)

    def counted(self, output: Path, door: Door) -> Count:
        """Of summary.json."""
        summary = read_json(output / "summary.json")
        if summary["planned"] != PAIRS or summary["missing"] or summary["refused"]:
            raise Broken(f"summary.json: {summary}")
        return Count(summary["existing"], summary["made"])


class Annotation(Step):
    """Step 3 with the oracle."""

    name = "3-annotation"
    WORKFLOWS = ("t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers")

    def arguments(self, output: Path) -> list[str | Path]:
        """All four workflows."""
        metadata = self.world.step(Generation).reference / "metadata.jsonl"
        return ["Distill Annotations/annotate.py", "--engine", "oracle", "--metadata", metadata, "--output", output]

    def content(self, output: Path) -> dict[str, Any]:
        """Records without the time at which they were made, and rejects."""
        found: dict[str, Any] = {}
        for name in self.WORKFLOWS:
            rows = [
                row | {"provenance": _without(row["provenance"], "created")} for row in _rows(output / f"{name}.jsonl")
            ]
            found |= {name: _sorted(rows), f"{name} rejects": _rows(output / f"{name}.rejects.jsonl")}
        return found

    def images(self) -> list[Path]:
        """Of Step 2."""
        return sorted(self.world.step(Generation).reference.glob("demo-sketcher/*.png"))

    def records(self, output: Path) -> list[Path]:
        """One file a workflow."""
        return [output / f"{name}.jsonl" for name in self.WORKFLOWS]

    def counted(self, output: Path, door: Door) -> Count:
        """Of annotate.summary.json, over all workflows."""
        summary = read_json(output / "annotate.summary.json")
        if summary["pairs"] != PAIRS or summary["bad_rows"]:
            raise Broken(f"annotate.summary.json: {summary}")
        flows = summary["workflows"].values()
        made = sum(flow["written"] for flow in flows)
        return Count(sum(flow["in_file"] for flow in flows) - made, made)

    def lost_images(self, output: Path, door: Door) -> int:
        """Rejects of the image workflows."""
        flows = read_json(output / "annotate.summary.json")["workflows"]
        counts = {flows[name]["rejected"].get("image", 0) for name in ("t2ia_answers", "iqa_questions")}
        if len(counts) > 1:
            raise Broken(f"the workflows miss different numbers of images: {counts}")
        return counts.pop()


class Building(Step):
    """Step 3, the training files."""

    name = "3-building"
    resumes = False

    def arguments(self, output: Path) -> list[str | Path]:
        """Two processes."""
        metadata = self.world.step(Generation).reference / "metadata.jsonl"
        inputs = ["--metadata", metadata, "--annotations", self.world.step(Annotation).reference]
        return [
            "Distill Annotations/build_dynevalinstruct.py",
            *inputs,
            "--output",
            output,
            "--workers",
            "2",
            "--jsonl",
        ]

    def content(self, output: Path) -> dict[str, Any]:
        """All files, to the byte."""
        return _files(output)

    def images(self) -> list[Path]:
        """Of Step 2."""
        return self.world.step(Annotation).images()

    def lost_images(self, output: Path, door: Door) -> int:
        """Of summary.json."""
        return read_json(output / "summary.json")["rejected"]["image"]


class Scoring(Step):
    """Step 5 with a random student."""

    name = "5-scoring"
    heavy = True
    LIMIT = 8

    def arguments(self, output: Path) -> list[str | Path]:
        """A few pairs, two at a time."""
        table = ["--metadata", self.world.step(Generation).reference / "metadata.jsonl", "--limit", str(self.LIMIT)]
        flags = ["--batch-size", "4", "--max-questions", "2", "--max-text", "8", "--max-pixels", "9216"]
        student = ["--checkpoint", self.world.student]
        return ["inference/run_inference.py", *table, *student, *flags, "--output", output / "scores.jsonl"]

    def content(self, output: Path) -> dict[str, Any]:
        """Scores, rounded to what arithmetic in batches of other sizes leaves alone; without times."""
        rows = []
        for row in _rows(output / "scores.jsonl"):
            soft = {name: round(value, 3) for name, value in row["soft"].items()}
            halves = {name: [one["score"] for one in row[name]] for name in ("t2ia_questions", "iqa_questions")}
            rows.append(_without(row, "seconds") | {"soft": soft} | halves)
        return {"rows": _sorted(rows), "rejects": _rows(output / "scores.rejects.jsonl")}

    def images(self) -> list[Path]:
        """Those that are scored."""
        folder = self.world.step(Generation).reference
        return [folder / row["file_name"] for row in list(read_jsonl(folder / "metadata.jsonl"))[: self.LIMIT]]

    def records(self, output: Path) -> list[Path]:
        """The one file."""
        return [output / "scores.jsonl"]

    def counted(self, output: Path, door: Door) -> Count:
        """Of scores.summary.json."""
        summary = read_json(output / "scores.summary.json")
        if summary["failed"]:
            raise Broken(f"scores.summary.json: {summary}")
        return Count(summary["there_before"], summary["scored"])

    def lost_images(self, output: Path, door: Door) -> int:
        """Failed pairs."""
        return read_json(output / "scores.summary.json")["failed"]


STEPS: tuple[type[Step], ...] = (Prompts, Generation, Annotation, Building, Scoring)


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


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(path)) if path.exists() else []


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    return list(_parsed(path.read_bytes().split(b"\n")[:-1])) if path.exists() else []


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def _sorted(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def _files(folder: Path, *but: str) -> dict[str, Any]:
    """SHA-256 of every visible file below a folder, by its path there."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in sorted(paths.items())
        if name not in but and not any(part.startswith(".") for part in Path(name).parts)
    }
