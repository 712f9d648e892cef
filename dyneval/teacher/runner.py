"""One annotation run over the pairs of a metadata.jsonl; `annotate` is the entry.

The run opens the annotation files, skips what earlier runs finished or gave up on, hands the other pairs to workers,
writes what they send back, and ends with a summary. It is the only writer of its files, so a worker that dies cannot
leave a half-written record, and the same command run again continues.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError
from dyneval.files.pairs import read_pairs
from dyneval.files.parts import Shard
from dyneval.files.store import JsonlIndex, append_reject, read_rejects, write_rejects
from dyneval.llm.chat import TokenTally
from dyneval.records import ANNOTATIONS, NEEDS, Annotation, PairRecord, Reject, RejectKind, Workflow, key_of
from dyneval.structs import Row
from dyneval.teacher.annotating import EncodedAnnotation, PairsPassed, RejectedAnnotation, is_complete
from dyneval.teacher.stale import StaleWork, annotation_store
from dyneval.teacher.summary import RunCounts, postfix, summarise
from dyneval.teacher.watch import ProgressWriter, State
from dyneval.teacher.worker import AnnotatingWorker, AnnotationTask, EngineNotes, MakeEngine, WorkerEvent
from dyneval.work import progress
from dyneval.work.executors import Executor, Here, Lost, Ray

logger = logging.getLogger(__name__)

# The teacher would most likely fail on these once more. Without a server, an image or the questions of the pair nothing
# was asked, so rejects of the kinds "engine", "image" and "dependency" are tried in the next run.
_GIVEN_UP: tuple[RejectKind, ...] = ("reply", "refused")
"""Kinds of rejects that an earlier run gave up on."""


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
        run = _Run(files=Files(config, stack))
        # For the progress bar: rows that are no pairs count as well, and of a shard about its share.
        with config.metadata.open("rb") as file:
            lines = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        whole = lines if config.limit is None else min(lines, config.limit)
        total = whole if config.shard is None else round(whole / config.shard.count)
        watch = ProgressWriter(folder=config.folder, run=config.name, total=total, gpus=config.gpus)
        watch.write(run.counts, run.tally)
        state: State = "stopped"
        try:
            with (
                progress.bar(config.name, total, "pair") as bar,
                closing(executor.run(make_worker, run.tasks(executor, bar))) as outcomes,
            ):
                for outcome in outcomes:
                    if isinstance(outcome, Lost):
                        run.give_up(outcome, bar)
                        continue
                    for event in outcome.items:
                        run.keep(event, bar)
                        watch.write(run.counts, run.tally)
            state = "finished"
        finally:
            # Also after an error, so that the files say how far the run came.
            watch.write(run.counts, run.tally, state)
            run.files.stale.forget_rejects()
            summary = summarise(run.counts, run.tally, run.asked, list(run.notes), config, run.files)
    return summary


@dataclass(kw_only=True)
class _Run:
    """Hands out the pairs of a run, writes what the workers send, and adds up what they did."""

    files: Files
    counts: RunCounts = field(default_factory=RunCounts)
    tally: TokenTally = field(default_factory=TokenTally)
    asked: tuple[str, str] = ("none", "none")
    """Names of the engine and of the model."""
    notes: dict[str, None] = field(default_factory=dict)
    """What the engines found out about their servers, each once, in order: the keys of a dict keep both."""

    def tasks(self, executor: Executor, bar: progress.Bar) -> Iterator[AnnotationTask]:
        """Yield one task with all pairs for a worker in this process, which reads the files itself.

        On Ray, yield tasks of about `executor.batch` unfinished pairs, with copies of their finished annotations. All
        pairs of a prompt go into one task: otherwise two machines would ask for the questions of the prompt.
        """
        files = self.files
        pairs = files.pairs(self.counts)
        done = {name: store.done for name, store in files.stores.items()}
        if not isinstance(executor, Ray):
            yield AnnotationTask(pairs, {**files.inputs, **files.stores}, done, files.given_up)
            return
        by_prompt: dict[str, list[PairRecord]] = {}
        for pair in pairs:
            if is_complete(pair, done):
                self.counts.pairs += 1
                bar.update()
            else:
                by_prompt.setdefault(pair.prompt_id, []).append(pair)
        batches: list[list[PairRecord]] = [[]]
        for group in by_prompt.values():
            if len(batches[-1]) >= executor.batch:
                batches.append([])
            batches[-1] += group
        for batch in filter(None, batches):
            known: dict[Workflow, dict[str, Annotation]] = {}
            given_up: dict[Workflow, set[str]] = {}
            for name in (*files.inputs, *files.stores):
                keys = dict.fromkeys(key_of(name, pair) for pair in batch)
                store = files.stores.get(name)
                source = files.inputs[name] if store is None else store
                rows = {key: source.get(key) for key in keys if store is None or key in store.done}
                known[name] = {key: row for key, row in rows.items() if row is not None}
                given_up[name] = files.given_up.get(name, set()).intersection(keys)
            yield AnnotationTask(batch, known, {name: set(known[name]) for name in files.stores}, given_up)

    def keep(self, event: WorkerEvent, bar: progress.Bar) -> None:
        """Write or count what a worker reports. Raises OSError when a file cannot be written."""
        if isinstance(event, EncodedAnnotation):
            self.files.stores[event.workflow].append_line(event.key, event.line)
        elif isinstance(event, RejectedAnnotation):
            self.files.stores[event.workflow].reject(event.reject)
            self.counts.rejected[event.workflow][event.reject.kind] += 1
        elif isinstance(event, PairsPassed):
            self.counts.pairs += event.pairs
            self.counts.annotated += event.annotated
            self.tally.add(event.asked)
            bar.update(event.pairs)
            if event.annotated:
                bar.note(postfix(self.counts, self.tally))
        elif isinstance(event, EngineNotes):
            self.notes |= dict.fromkeys(event.notes)
        elif self.asked == ("none", "none"):  # of several workers the first: all have the same engine
            self.asked = event.engine, event.model
            for store in self.files.stores.values():
                # Finished pairs are kept whichever teacher answered; answers of two in a folder should be wanted.
                kept: Annotation | None = store.get(next(iter(store.done), ""))
                if kept and kept.provenance.model != event.model:
                    logger.warning(
                        "%s: holds answers of %s, which are kept; %s answers the rest (--force asks it for all)",
                        store.path,
                        kept.provenance.model,
                        event.model,
                    )

    def give_up(self, lost: Lost[AnnotationTask], bar: progress.Bar) -> None:
        """Reject what a lost task should have made, as failures of the engine, which the next run tries again."""
        pairs = list(lost.task.pairs)
        for name, store in self.files.stores.items():
            missing = dict.fromkeys(key_of(name, pair) for pair in pairs)
            for key in missing.keys() - store.done - self.files.given_up[name]:
                store.reject(Reject(key=key, kind="engine", reason=lost.reason))
                self.counts.rejected[name]["engine"] += 1
        self.counts.pairs += len(pairs)
        bar.update(len(pairs))


class Files:
    """The open files of a run: pairs to annotate, annotations that are there, what an earlier run gave up on."""

    def __init__(self, config: AnnotateConfig, stack: ExitStack) -> None:
        """Open the files; `stack` closes them.

        Raises:
            DataFileError: needed questions are missing, or another process writes to the same files.
        """
        self.config = config
        self.stores = {name: stack.enter_context(annotation_store(config.folder, name)) for name in config.workflows}
        rejects: dict[Workflow, dict[str, Reject]] = {}
        for name, store in self.stores.items():
            if config.force:
                store.done.clear()
            found = {} if config.force or config.retry_rejects else read_rejects(store.rejects_path, store.key)
            rejects[name] = {key: row for key, row in found.items() if row.kind in _GIVEN_UP and key not in store.done}
            write_rejects(store.rejects_path, rejects[name].values(), store.key)
        self.given_up = {name: set(found) for name, found in rejects.items()}
        self.inputs: dict[Workflow, JsonlIndex[Any]] = {}
        """Questions that this run needs and does not ask for."""
        for name in config.workflows:
            needed = NEEDS.get(name)
            if needed is None or needed in config.workflows:
                continue
            path = config.folder / f"{needed}.jsonl"
            if not path.exists():
                raise DataFileError(f"{path}: missing; {name} needs the questions, so ask for {needed} first")
            self.inputs[needed] = JsonlIndex(path, ANNOTATIONS[needed])
            stack.callback(self.inputs[needed].close)
        self.stale = StaleWork(config.metadata.parent, self.stores, rejects, self.given_up)
        self._prompts: dict[str, int] = {}
        # Named after the run: another run, of other workflows, may work in this folder at the same time.
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
            # A prompt_id is the key of its questions. With two prompts under one id, images would be judged by the
            # questions of another prompt. The hash holds a number for each prompt in place of its text.
            prompt = hash(pair.prompt.strip())
            if self._prompts.setdefault(pair.prompt_id, prompt) != prompt:
                reason = (
                    f"its prompt_id {pair.prompt_id} stands there before with another prompt; give it one of its own"
                )
                reject(Reject(key=pair.pair_id, kind="row", reason=reason))
                continue
            self.stale.retire(pair)
            yield pair
