"""Step 3 on a Ray cluster: portions of pairs go out with what is known of them, records come back into the files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tqdm import tqdm

from dyneval.llm.chat import ChatEngine, EngineStopped, Tally
from dyneval.records import ANNOTATIONS, PairRecord, Reject, Workflow
from dyneval.teacher.annotating import Annotator, is_complete, key_of
from dyneval.teacher.asking import Teacher
from dyneval.teacher.runner import AnnotateConfig, Files, warn_of_another_teacher
from dyneval.teacher.summary import RunCounts, postfix, summarise
from dyneval.work.executors import Lost, Ray

MakeEngine = Callable[[], ChatEngine]


@dataclass(frozen=True, slots=True)
class Portion:
    """Pairs for one task, all of a prompt together, with their finished records and what is not asked for again."""

    pairs: list[PairRecord]
    known: dict[Workflow, dict[str, Any]]
    given_up: dict[Workflow, set[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a task has brought; `down` says why it ended before its time."""

    rows: dict[Workflow, list[Any]]
    rejects: list[tuple[Workflow, Reject]]
    annotated: int
    tally: Tally
    engine: str
    model: str
    down: str | None = None


def annotate_on_ray(config: AnnotateConfig, cluster: Ray, make_engine: MakeEngine) -> dict[str, Any]:
    """As `runner.annotate`, by engines in actors; the summary adds up what all of them did.

    Raises:
        ClusterError: no cluster, or the engine could not be made there.
        DataFileError, EngineStopped, OSError: as `runner.annotate`.
    """
    config = replace(config, metadata=config.metadata.resolve())  # the other machines have another current folder
    with ExitStack() as stack:
        home = _Home(Files(config, stack))
        try:
            with home.files.progress() as bar:
                portions = list(home.portions(cluster.batch, bar))
                make_worker = partial(_Worker, config, make_engine)
                for outcome in cluster.run(make_worker, portions):
                    found = outcome if isinstance(outcome, Lost) else next(iter(outcome.items))
                    home.keep(found)
                    bar.update(len(found.task.pairs) if isinstance(found, Lost) else found.annotated)
                    bar.set_postfix_str(postfix(home.counts, home.tally), refresh=False)
        finally:
            summary = summarise(home.counts, home.tally, home.asked or ("none", "none"), config, home.files.stores)
    return summary


class _Home:
    """The driver's side: the files of the run, and what all actors did."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.counts = RunCounts()
        self.tally = Tally()
        self.asked: tuple[str, str] | None = None

    def portions(self, size: int, bar: tqdm) -> Iterator[Portion]:
        """Portions of `size` unfinished pairs or a few more: the questions of a prompt are asked in one place."""
        by_prompt: dict[str, list[PairRecord]] = {}
        for pair in self.files.pairs(self.counts):
            if is_complete(pair, self.files.stores):
                self.counts.pairs += 1
                bar.update()
            else:
                by_prompt.setdefault(pair.prompt_id, []).append(pair)
        portion: list[PairRecord] = []
        for group in by_prompt.values():
            portion += group
            if len(portion) >= size:
                yield self._with_known(portion)
                portion = []
        if portion:
            yield self._with_known(portion)

    def _with_known(self, pairs: list[PairRecord]) -> Portion:
        files = self.files
        known: dict[Workflow, dict[str, Any]] = {}
        given_up: dict[Workflow, set[str]] = {}
        for name in (*files.inputs, *files.stores):
            keys = dict.fromkeys(key_of(name, pair) for pair in pairs)
            store = files.stores.get(name)
            source = files.inputs[name] if store is None else store
            rows = {key: source.get(key) for key in keys if store is None or key in store.done}
            known[name] = {key: row for key, row in rows.items() if row is not None}
            given_up[name] = files.given_up.get(name, set()).intersection(keys)
        return Portion(pairs, known, given_up)

    def keep(self, found: Found | Lost[Portion]) -> None:
        """Write what has come back. Raises EngineStopped where an actor did."""
        if isinstance(found, Lost):
            self._reject_all(found)
            return
        if self.asked is None:
            self.asked = found.engine, found.model
            for store in self.files.stores.values():
                warn_of_another_teacher(store, found.model)
        for name, rows in found.rows.items():
            for row in rows:
                self.files.stores[name].append(row)
        for name, reject in found.rejects:
            self.files.stores[name].reject(reject)
            self.counts.reject(name, reject.kind)
        self.counts.pairs += found.annotated
        self.counts.annotated += found.annotated
        self.tally.add(found.tally)
        if found.down:
            raise EngineStopped(found.down)

    def _reject_all(self, lost: Lost[Portion]) -> None:
        """Everything that a lost task should have brought; as failures of the engine they are tried again."""
        for name, store in self.files.stores.items():
            missing = dict.fromkeys(key_of(name, pair) for pair in lost.task.pairs)
            for key in missing.keys() - store.done - self.files.given_up[name]:
                store.reject(Reject(key=key, kind="engine", reason=lost.reason))
                self.counts.reject(name, "engine")
        self.counts.pairs += len(lost.task.pairs)


class _Ledger:
    """Records of a workflow in an actor: those that came with the task, and new ones to send back."""

    def __init__(self, name: Workflow, known: dict[str, Any], rejects: list[tuple[Workflow, Reject]]) -> None:
        self.name = name
        self.known = known
        self.done = set(known)
        self.rows: list[Any] = []
        self.rejects = rejects

    def get(self, key: str) -> Any:
        return self.known.get(key)

    def append(self, record: Any) -> None:
        record.encode()  # what does not fit its type is told here, with the reply at hand
        key = str(getattr(record, ANNOTATIONS[self.name].KEY))
        self.known[key] = record
        self.done.add(key)
        self.rows.append(record)

    def reject(self, reject: Reject) -> None:
        self.rejects.append((self.name, reject))


class _Worker:
    """An engine in an actor, and the event loop that it lives in."""

    def __init__(self, config: AnnotateConfig, make_engine: MakeEngine, device: str) -> None:
        self.config = config
        self.engine = make_engine()
        self.loop = asyncio.Runner()

    def close(self) -> None:
        pass

    def work(self, portion: Portion) -> Generator[Found, None, None]:
        teacher = Teacher(engine=self.engine, attempts=self.config.attempts)
        rejects: list[tuple[Workflow, Reject]] = []
        ledgers = {name: _Ledger(name, portion.known[name], rejects) for name in self.config.workflows}
        inputs = {name: rows for name, rows in portion.known.items() if name not in ledgers}
        annotator = Annotator(teacher, self.config.metadata.parent, ledgers, portion.given_up, inputs)
        down = None
        try:
            self.loop.run(annotator.work(iter(portion.pairs), self.config.concurrency, tqdm(disable=True)))
        except EngineStopped as error:
            down = str(error)
        yield Found(
            rows={name: ledger.rows for name, ledger in ledgers.items()},
            rejects=rejects,
            annotated=annotator.counts.annotated,
            tally=teacher.tally,
            engine=self.engine.name,
            model=self.engine.model,
            down=down,
        )
