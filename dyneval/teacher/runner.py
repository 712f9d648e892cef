"""A run over the pairs of a metadata.jsonl: opens the files, goes on where the last run stopped, sums up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dyneval.errors import DataFileError
from dyneval.files.parts import Shard
from dyneval.files.store import JsonlIndex, JsonlStore, append_reject, read_rejects, write_rejects
from dyneval.llm.chat import ChatEngine
from dyneval.records import ANNOTATIONS, NEEDS, Annotation, PairRecord, Reject, Workflow
from dyneval.teacher.annotating import Annotator
from dyneval.teacher.asking import Teacher
from dyneval.teacher.pairs import read_pairs
from dyneval.teacher.prompts import prompt_version
from dyneval.teacher.summary import RunCounts, summarise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateConfig:
    """What is annotated, and where it goes.

    Attributes:
        metadata: metadata.jsonl of the pairs; images are relative to its folder and may not leave it.
        output: folder of the annotation files.
        workflows: which of the four are run; questions of those that are not must be there.
        concurrency: pairs at work at once.
        attempts: how often the teacher is asked before a reply counts as rejected.
        limit: only the first so many pairs.
        shard: only this part of the pairs, written below `output`/shards.
        force: annotate finished records again.
        retry_rejects: ask again for what an earlier run gave up on.
        gpus: GPUs behind the engine, for the GPU hours in the summary.
    """

    metadata: Path
    output: Path
    workflows: tuple[Workflow, ...]
    concurrency: int = 64
    attempts: int = 3
    limit: int | None = None
    shard: Shard | None = None
    force: bool = False
    retry_rejects: bool = False
    gpus: int = 0

    @property
    def folder(self) -> Path:
        """Where this run writes: `output`, or the folder of its shard."""
        return self.shard.folder(self.output) if self.shard else self.output


async def annotate(config: AnnotateConfig, engine: ChatEngine) -> dict[str, Any]:
    """Annotate the pairs and return the summary, which is also written as `<run>.summary.json`.

    Raises:
        DataFileError: metadata or needed questions are missing, or another process writes to the same files.
        EngineStopped: the engine is gone; see `dyneval.llm.chat.ask`.
        OSError: a file could not be written (disk full). Finished records are safe in every case.
    """
    with ExitStack() as stack:
        files = Files(config, stack)
        for store in files.stores.values():
            warn_of_another_teacher(store, engine.model)
        teacher = Teacher(engine=engine, attempts=config.attempts)
        annotator = Annotator(teacher, config.metadata.parent, files.stores, files.given_up, files.inputs)
        try:
            with files.progress() as bar:
                await annotator.work(files.pairs(annotator.counts), config.concurrency, bar)
        finally:
            asked = engine.name, engine.model
            summary = summarise(annotator.counts, teacher.tally, asked, config, files.stores)
    return summary


class Files:
    """The files of a run, open: pairs to annotate, records that are there, what an earlier run gave up on."""

    def __init__(self, config: AnnotateConfig, stack: ExitStack) -> None:
        """Open the files; `stack` closes them. Raises DataFileError."""
        self.config = config
        self.stores = {name: stack.enter_context(_store(config, name)) for name in config.workflows}
        self.given_up = {name: _given_up(config, store) for name, store in self.stores.items()}
        self.inputs = _inputs(config, stack)
        self._bad_rows = config.folder / "pairs.rejects.jsonl"
        self._bad_rows.unlink(missing_ok=True)

    def pairs(self, counts: RunCounts) -> Iterator[PairRecord]:
        """The pairs of the run, finished or not; rows that are no pairs are reported and counted."""

        def report(name: str, reason: str) -> None:
            counts.bad_rows += 1
            logger.warning("%s: %s", name, reason)
            append_reject(self._bad_rows, Reject(key=name, kind="row", reason=reason), PairRecord.KEY)

        return read_pairs(self.config.metadata, report, self.config.shard, self.config.limit)

    def progress(self) -> tqdm:
        """A progress bar over the pairs."""
        total = None if self.config.shard else _count(self.config)
        return tqdm(total=total, unit="pair", desc=_name(self.config), smoothing=0.05, mininterval=0.5)


def _store(config: AnnotateConfig, name: Workflow) -> JsonlStore[Any]:
    path = config.folder / f"{name}.jsonl"
    return JsonlStore(path, ANNOTATIONS[name], version=prompt_version(name), keep_rejects=True)


def warn_of_another_teacher(store: JsonlStore[Any], model: str) -> None:
    """Finished pairs are kept whoever answered them; a folder with the verdicts of two teachers should be wanted."""
    kept: Annotation | None = store.get(next(iter(store.done), ""))
    earlier = kept.provenance.model if kept else model
    if earlier != model:
        logger.warning(
            "%s: holds answers of %s, which are kept; %s answers the rest (--force asks it for all)",
            store.path,
            earlier,
            model,
        )


def _given_up(config: AnnotateConfig, store: JsonlStore[Any]) -> set[str]:
    """Keys whose replies an earlier run gave up on; other rejects (no server, no image) are tried again."""
    if config.force:
        store.done.clear()
    found = {} if config.force or config.retry_rejects else read_rejects(store.rejects_path, store.key)
    kept = {key: reject for key, reject in found.items() if reject.kind == "reply" and key not in store.done}
    write_rejects(store.rejects_path, kept.values(), store.key)
    return set(kept)


def _inputs(config: AnnotateConfig, stack: ExitStack) -> dict[Workflow, JsonlIndex[Any]]:
    """Questions that this run needs but does not ask for."""
    found: dict[Workflow, JsonlIndex[Any]] = {}
    for name in config.workflows:
        needed = NEEDS.get(name)
        if needed is None or needed in config.workflows:
            continue
        path = config.folder / f"{needed}.jsonl"
        if not path.exists():
            raise DataFileError(f"{path}: missing; {name} needs the questions, so ask for {needed} first")
        found[needed] = JsonlIndex(path, ANNOTATIONS[needed])
        stack.callback(found[needed].close)
    return found


def _count(config: AnnotateConfig) -> int:
    with config.metadata.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return lines if config.limit is None else min(lines, config.limit)


def _name(config: AnnotateConfig) -> str:
    return config.workflows[0] if len(config.workflows) == 1 else "annotate"
