"""A run over the pairs of a metadata.jsonl: opens the files, goes on where the last run stopped, sums up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError
from dyneval.files.pairs import read_pairs
from dyneval.files.parts import Shard
from dyneval.files.store import JsonlIndex, JsonlStore, append_reject, read_rejects, write_rejects
from dyneval.llm.chat import TokenTally
from dyneval.records import ANNOTATIONS, NEEDS, Annotation, PairRecord, Reject, RejectKind, Workflow, key_of
from dyneval.structs import Row
from dyneval.teacher.annotating import is_complete
from dyneval.teacher.stale import StaleWork, annotation_store
from dyneval.teacher.summary import RunCounts, postfix, summarise
from dyneval.teacher.watch import State, Watch
from dyneval.teacher.worker import AnnotatingWorker, Asked, Found, Made, MakeEngine, Noted, Passed, Portion
from dyneval.work import progress
from dyneval.work.executors import Executor, Here, Lost, Ray

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
    gpus: float = 0

    @property
    def folder(self) -> Path:
        """Where this run writes: `output`, or the folder of its shard."""
        return self.shard.folder(self.output) if self.shard else self.output

    @property
    def name(self) -> str:
        """Name of the run, in its progress and its summary file."""
        return self.workflows[0] if len(self.workflows) == 1 else "annotate"


def annotate(config: AnnotateConfig, make_engine: MakeEngine, executor: Executor | None = None) -> Row:
    """Annotate the pairs and return the summary, which is also written as `<run>.summary.json`.

    Args:
        config: what is annotated.
        make_engine: makes the engine, once a worker.
        executor: where the engines work; default: in this process. The summary adds up what all of them did.

    Raises:
        DataFileError: metadata or needed questions are missing, or another process writes to the same files.
        EngineStopped: the engine is gone, see `dyneval.llm.chat.ask`.
        ClusterError: the same on Ray, or there is no cluster, or the engine could not be made there.
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
        OSError: a file could not be written (disk full). Finished records are safe in every case.
    """
    executor = executor or Here()
    if isinstance(executor, Ray):
        config = replace(config, metadata=config.metadata.resolve())  # the other machines have another current folder
    make_worker = partial(AnnotatingWorker, config.metadata.parent, config.concurrency, config.attempts, make_engine)
    with ExitStack() as stack:
        run, total = _Run(Files(config, stack)), _count(config)
        watch = Watch(config.folder, config.name, total, config.gpus)
        watch.look(run.counts, run.tally)
        state: State = "stopped"
        try:
            with (
                progress.bar(config.name, total, "pair") as bar,
                closing(executor.run(make_worker, run.portions(executor, bar))) as outcomes,
            ):
                for outcome in outcomes:
                    if isinstance(outcome, Lost):
                        run.give_up(outcome, bar)
                        continue
                    for found in outcome.items:
                        run.keep(found, bar)
                        watch.look(run.counts, run.tally)
            state = "finished"
        finally:
            watch.look(run.counts, run.tally, state)
            run.files.stale.forget_rejects()
            summary = summarise(run.counts, run.tally, run.asked, list(run.notes), config, run.files)
    return summary


class _Run:
    """The one writer of the files of a run, and what all workers did."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.counts = RunCounts()
        self.tally = TokenTally()
        self.asked = ("none", "none")
        self.notes: dict[str, None] = {}

    def portions(self, executor: Executor, bar: progress.Bar) -> Iterator[Portion]:
        """All pairs at once for a worker in this process, which looks into the files; for others some, with copies.

        Those are about as many unfinished pairs as the executor wants, with all of a prompt, whose questions are asked
        in one place.
        """
        files = self.files
        pairs = files.pairs(self.counts)
        if not isinstance(executor, Ray):
            done = {name: store.done for name, store in files.stores.items()}
            yield Portion(pairs, {**files.inputs, **files.stores}, done, files.given_up)
            return
        by_prompt: dict[str, list[PairRecord]] = {}
        for pair in pairs:
            if is_complete(pair, files.stores):
                self.counts.pairs += 1
                bar.update()
            else:
                by_prompt.setdefault(pair.prompt_id, []).append(pair)
        portion: list[PairRecord] = []
        for group in by_prompt.values():
            portion += group
            if len(portion) >= executor.batch:
                yield files.portion(portion)
                portion = []
        if portion:
            yield files.portion(portion)

    def keep(self, found: Found, bar: progress.Bar) -> None:
        """Write what a worker has found."""
        if isinstance(found, Made):
            self.files.stores[found.workflow].append_line(found.key, found.line)
        elif isinstance(found, Passed):
            self.counts.pairs += found.pairs
            self.counts.annotated += found.annotated
            self.tally.add(found.asked)
            bar.update(found.pairs)
            if found.annotated:
                bar.note(postfix(self.counts, self.tally))
        elif isinstance(found, Asked):
            if self.asked == ("none", "none"):
                self.asked = found.engine, found.model
                for store in self.files.stores.values():
                    _warn_of_another_teacher(store, found.model)
        elif isinstance(found, Noted):
            self.notes |= dict.fromkeys(found.notes)
        else:
            self.files.stores[found.workflow].reject(found.reject)
            self.counts.reject(found.workflow, found.reject.kind)

    def give_up(self, lost: Lost[Portion], bar: progress.Bar) -> None:
        """Reject all that a lost task should have brought; as failures of the engine they are tried again."""
        pairs = list(lost.task.pairs)
        for name, store in self.files.stores.items():
            missing = dict.fromkeys(key_of(name, pair) for pair in pairs)
            for key in missing.keys() - store.done - self.files.given_up[name]:
                store.reject(Reject(key=key, kind="engine", reason=lost.reason))
                self.counts.reject(name, "engine")
        self.counts.pairs += len(pairs)
        bar.update(len(pairs))


class Files:
    """The files of a run, open: pairs to annotate, records that are there, what an earlier run gave up on."""

    def __init__(self, config: AnnotateConfig, stack: ExitStack) -> None:
        """Open the files; `stack` closes them. Raises DataFileError."""
        self.config = config
        self.stores = {name: stack.enter_context(annotation_store(config.folder, name)) for name in config.workflows}
        rejects = {name: _given_up(config, store) for name, store in self.stores.items()}
        self.given_up = {name: set(found) for name, found in rejects.items()}
        self.inputs = _inputs(config, stack)
        self.stale = StaleWork(config.metadata.parent, self.stores, rejects, self.given_up)
        self._prompts: dict[str, int] = {}
        # Of the run, since others may work in this folder.
        run = "" if config.name == "annotate" else f"{config.name}."
        self._bad_rows = config.folder / f"pairs.{run}rejects.jsonl"
        self._bad_rows.unlink(missing_ok=True)

    def pairs(self, counts: RunCounts) -> Iterator[PairRecord]:
        """The pairs of the run, finished or not; rows that are no pairs are reported and counted."""

        def reject(row: Reject) -> None:
            counts.bad_rows += 1
            logger.warning("%s: %s", row.key, row.reason)
            append_reject(self._bad_rows, row, PairRecord.KEY)

        config = self.config
        for pair in read_pairs(config.metadata, PairRecord, reject, shard=config.shard, limit=config.limit):
            prompt = hash(pair.prompt.strip())
            if self._prompts.setdefault(pair.prompt_id, prompt) != prompt:
                reason = (
                    f"its prompt_id {pair.prompt_id} stands there before with another prompt; give it one of its own"
                )
                reject(Reject(key=pair.pair_id, kind="row", reason=reason))
                continue
            self.stale.retire(pair)
            yield pair

    def portion(self, pairs: list[PairRecord]) -> Portion:
        """Pairs, with copies of their finished records."""
        known: dict[Workflow, dict[str, Annotation]] = {}
        given_up: dict[Workflow, set[str]] = {}
        for name in (*self.inputs, *self.stores):
            keys = dict.fromkeys(key_of(name, pair) for pair in pairs)
            store = self.stores.get(name)
            source = self.inputs[name] if store is None else store
            rows = {key: source.get(key) for key in keys if store is None or key in store.done}
            known[name] = {key: row for key, row in rows.items() if row is not None}
            given_up[name] = self.given_up.get(name, set()).intersection(keys)
        return Portion(pairs, known, {name: set(known[name]) for name in self.stores}, given_up)


def _warn_of_another_teacher(store: JsonlStore[Any], model: str) -> None:
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


_GIVEN_UP: tuple[RejectKind, ...] = ("reply", "refused")


def _given_up(config: AnnotateConfig, store: JsonlStore[Any]) -> dict[str, Reject]:
    """What an earlier run gave up on, or an engine refused; other rejects (no server, no image) are tried anew."""
    if config.force:
        store.done.clear()
    found = {} if config.force or config.retry_rejects else read_rejects(store.rejects_path, store.key)
    kept = {key: reject for key, reject in found.items() if reject.kind in _GIVEN_UP and key not in store.done}
    write_rejects(store.rejects_path, kept.values(), store.key)
    return kept


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
    """Pairs of the run; of a part about as many as its share is."""
    with config.metadata.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    whole = lines if config.limit is None else min(lines, config.limit)
    return whole if config.shard is None else round(whole / config.shard.count)
