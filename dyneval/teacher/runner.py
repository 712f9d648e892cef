"""Runs the workflows over all pairs: a bounded number at once, finished records skipped, every failure counted."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dyneval import schemas
from dyneval.images import ImageError, resolve_below
from dyneval.llm.base import ChatEngine, ChatError
from dyneval.records import PairRecord, Record
from dyneval.shards import Shard
from dyneval.storage import DataFileError, JsonlIndex, JsonlStore, Row, atomic_write, read_jsonl
from dyneval.teacher import workflows
from dyneval.teacher.asking import RejectedReply, Teacher
from dyneval.teacher.pairs import read_pairs
from dyneval.teacher.prompts import Workflow, prompt_version
from dyneval.teacher.summary import RunCounts, postfix, summarise

logger = logging.getLogger(__name__)

KEYS: dict[Workflow, str] = {
    "t2ia_questions": "prompt_id",
    "t2ia_answers": "pair_id",
    "iqa_questions": "pair_id",
    "iqa_answers": "pair_id",
}
NEEDS: dict[Workflow, Workflow] = {"t2ia_answers": "t2ia_questions", "iqa_answers": "iqa_questions"}
ENGINE_FAILURES = 20
"""After so many failures of the engine in a row the run stops: the server is gone, the other pairs would fail too."""


class EngineDown(RuntimeError):
    """The engine failed again and again; the run was stopped and can be started again."""


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
        run = _Run(config, Teacher(engine=engine, attempts=config.attempts), stack)
        try:
            await run.work()
        finally:
            summary = summarise(run.counts, run.teacher, config, run.stores)
    return summary


class _Run:
    """State of one run: open stores, what is known, what has been counted."""

    def __init__(self, config: AnnotateConfig, teacher: Teacher, stack: ExitStack) -> None:
        self.config = config
        self.teacher = teacher
        self.counts = RunCounts()
        self.root = config.metadata.parent
        self.stores = {name: stack.enter_context(_store(config, name)) for name in config.workflows}
        self.given_up = {name: _given_up(config, store) for name, store in self.stores.items()}
        for store in self.stores.values():
            _warn_of_another_teacher(store, teacher.engine.model)
        self.sources: dict[Workflow, JsonlStore | JsonlIndex] = {**_inputs(config, stack), **self.stores}
        self._bad_rows = config.folder / "pairs.rejects.jsonl"
        self._bad_rows.unlink(missing_ok=True)
        self._asked: dict[str, asyncio.Task[Row | None]] = {}
        self._engine_failures = 0

    async def work(self) -> None:
        """Annotate all pairs, `concurrency` of them at once."""
        pairs = read_pairs(self.config.metadata, self._report_row, self.config.shard, self.config.limit)
        total = None if self.config.shard else _count(self.config)
        with tqdm(total=total, unit="pair", desc=_name(self.config), smoothing=0.05, mininterval=0.5) as bar:
            workers = [asyncio.create_task(self._worker(pairs, bar)) for _ in range(self.config.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in (*workers, *self._asked.values()):
                    worker.cancel()
                await asyncio.gather(*workers, *self._asked.values(), return_exceptions=True)

    async def _worker(self, pairs: Iterator[PairRecord], bar: tqdm) -> None:
        for pair in pairs:
            finished = self._is_complete(pair)
            if not finished:
                await self._annotate(pair)
                self.counts.annotated += 1
                bar.set_postfix_str(postfix(self.counts, self.teacher), refresh=False)
            self.counts.pairs += 1
            bar.update()
            if finished and self.counts.pairs % 500 == 0:
                await asyncio.sleep(0)  # let the others work while finished pairs are passed over

    def _is_complete(self, pair: PairRecord) -> bool:
        return all(
            (pair.prompt_id if name == "t2ia_questions" else pair.pair_id) in store.done
            for name, store in self.stores.items()
        )

    async def _annotate(self, pair: PairRecord) -> None:
        questions = await self._t2ia_questions(pair)
        # Both image requests go out together, while the server has the image at hand.
        await asyncio.gather(self._t2ia_answers(pair, questions), self._iqa(pair))

    async def _t2ia_questions(self, pair: PairRecord) -> Row | None:
        """Questions of the pair's prompt: asked once, awaited by all its images."""
        if "t2ia_questions" not in self.sources:
            return None
        key = pair.prompt_id
        if key not in self._asked:
            ask = self._record("t2ia_questions", key, lambda: workflows.t2ia_questions(self.teacher, key, pair.prompt))
            task = self._asked[key] = asyncio.create_task(ask)
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(self._asked[key])

    async def _t2ia_answers(self, pair: PairRecord, known: Row | None) -> None:
        await self._answers("t2ia_answers", pair, known, workflows.t2ia_answers)

    async def _iqa(self, pair: PairRecord) -> None:
        if "iqa_questions" not in self.sources:
            return
        known = await self._record(
            "iqa_questions", pair.pair_id, lambda: workflows.iqa_questions(self.teacher, pair, self._image(pair))
        )
        await self._answers("iqa_answers", pair, known, workflows.iqa_answers)

    async def _answers(
        self, name: Workflow, pair: PairRecord, known: Row | None, ask: Callable[..., Awaitable[Record]]
    ) -> None:
        if name not in self.stores or self._is_finished(name, pair.pair_id):
            return
        if known is None:
            self._reject(name, pair.pair_id, f"there are no {NEEDS[name]} for it", "dependency")
            return
        await self._record(name, pair.pair_id, lambda: ask(self.teacher, pair, self._image(pair), known["questions"]))

    async def _record(self, name: Workflow, key: str, make: Callable[[], Awaitable[Record]]) -> Row | None:
        """Make, check and append the record `key`; return its row, or None where there is none."""
        if name not in self.stores or self._is_finished(name, key):
            return self._known(name, key)
        try:
            record = await make()
            row = record.to_dict()
            schemas.check(record.SCHEMA, row, key)
        except RejectedReply as error:
            self._reject(name, key, str(error), "reply", attempts=error.attempts, raw=error.raw)
        except schemas.SchemaError as error:
            self._reject(name, key, str(error), "reply")
        except ImageError as error:
            self._reject(name, key, str(error), "image")
        except ChatError as error:
            self._reject(name, key, str(error), "engine")
            self._note_engine_failure(error)
        else:
            self._engine_failures = 0
            self.stores[name].append(row)
            return row
        return None

    def _is_finished(self, name: Workflow, key: str) -> bool:
        return key in self.stores[name].done or key in self.given_up[name]

    def _known(self, name: Workflow, key: str) -> Row | None:
        is_needed = any(NEEDS.get(other) == name for other in self.stores)
        return self.sources[name].get(key) if is_needed and key not in self.given_up.get(name, ()) else None

    def _image(self, pair: PairRecord) -> Path:
        return resolve_below(self.root, pair.file_name)

    def _reject(self, name: Workflow, key: str, reason: str, kind: str, **details: Any) -> None:
        self.stores[name].reject(key, reason, kind=kind, **details)
        self.given_up[name].add(key)  # the other images of a prompt do not ask for it again in this run
        self.counts.reject(name, kind)
        if kind != "dependency":
            logger.warning("%s: %s: %s", name, key, reason)

    def _report_row(self, name: str, reason: str) -> None:
        self.counts.bad_rows += 1
        logger.warning("%s: %s", name, reason)
        with self._bad_rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"pair_id": name, "reason": reason, "kind": "row"}) + "\n")

    def _note_engine_failure(self, error: ChatError) -> None:
        self._engine_failures += 1
        if self._engine_failures >= ENGINE_FAILURES:
            raise EngineDown(f"the engine failed {self._engine_failures} times in a row, last: {error}")


def _store(config: AnnotateConfig, name: Workflow) -> JsonlStore:
    path = config.folder / f"{name}.jsonl"
    return JsonlStore(path, KEYS[name], version=prompt_version(name), keep_rejects=True)


def _warn_of_another_teacher(store: JsonlStore, model: str) -> None:
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
