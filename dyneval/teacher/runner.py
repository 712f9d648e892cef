"""A run over the pairs of a metadata.jsonl: opens the files, goes on where the last run stopped, sums up."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write
from dyneval.files.jsonl import Row, read_jsonl
from dyneval.files.parts import Shard
from dyneval.files.store import JsonlIndex, JsonlStore
from dyneval.llm.base import ChatEngine
from dyneval.records import KEYS, PairRecord, Workflow
from dyneval.teacher.annotating import NEEDS, Annotator
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
        EngineDown: the engine failed `ENGINE_FAILURES` times in a row.
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
            with self._bad_rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"pair_id": name, "reason": reason, "kind": "row"}) + "\n")

        return read_pairs(self.config.metadata, report, self.config.shard, self.config.limit)

    def progress(self) -> tqdm:
        """A progress bar over the pairs."""
        total = None if self.config.shard else _count(self.config)
        return tqdm(total=total, unit="pair", desc=_name(self.config), smoothing=0.05, mininterval=0.5)


def _store(config: AnnotateConfig, name: Workflow) -> JsonlStore:
    path = config.folder / f"{name}.jsonl"
    return JsonlStore(path, KEYS[name], version=prompt_version(name), keep_rejects=True)


def warn_of_another_teacher(store: JsonlStore, model: str) -> None:
    """Finished pairs are kept whoever answered them; a folder with the verdicts of two teachers should be wanted."""
    kept = store.get(next(iter(store.done), ""))
    earlier = kept["provenance"]["model"] if kept else model
    if earlier != model:
        logger.warning(
            "%s: holds answers of %s, which are kept; %s answers the rest (--force asks it for all)",
            store.path,
            earlier,
            model,
        )


def _given_up(config: AnnotateConfig, store: JsonlStore) -> set[str]:
    """Keys whose replies an earlier run gave up on; other rejects (no server, no image) are tried again."""
    if config.force:
        store.done.clear()
    rows: dict[str, Row] = {}
    if store.rejects_path.exists() and not (config.force or config.retry_rejects):
        found = {str(row.get(store.key)): row for row in read_jsonl(store.rejects_path)}
        rows = {key: row for key, row in found.items() if row.get("kind") == "reply" and key not in store.done}
    store.rejects_path.unlink(missing_ok=True)
    if rows:
        with atomic_write(store.rejects_path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
    return set(rows)


def _inputs(config: AnnotateConfig, stack: ExitStack) -> dict[Workflow, JsonlIndex]:
    """Questions that this run needs but does not ask for."""
    found: dict[Workflow, JsonlIndex] = {}
    for name in config.workflows:
        needed = NEEDS.get(name)
        if needed is None or needed in config.workflows:
            continue
        path = config.folder / f"{needed}.jsonl"
        if not path.exists():
            raise DataFileError(f"{path}: missing; {name} needs the questions, so ask for {needed} first")
        found[needed] = JsonlIndex(path, KEYS[needed])
        stack.callback(found[needed].close)
    return found


def _count(config: AnnotateConfig) -> int:
    with config.metadata.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return lines if config.limit is None else min(lines, config.limit)


def _name(config: AnnotateConfig) -> str:
    return config.workflows[0] if len(config.workflows) == 1 else "annotate"
