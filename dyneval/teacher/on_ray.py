"""Step 3 on a Ray cluster: portions of pairs go out with what is known of them, records come back into the files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tqdm import tqdm

from dyneval.cluster.flags import Cluster
from dyneval.cluster.pool import Lost, run_tasks
from dyneval.llm.base import ChatEngine, ChatReply, ChatRequest
from dyneval.records import PairRecord
from dyneval.storage import Row
from dyneval.teacher.annotating import KEYS, Annotator, EngineDown
from dyneval.teacher.asking import Tally, Teacher
from dyneval.teacher.prompts import Workflow
from dyneval.teacher.runner import AnnotateConfig, Files
from dyneval.teacher.summary import postfix, summarise

MakeEngine = Callable[[], ChatEngine]
Reject = tuple[Workflow, str, str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Portion:
    """Pairs for one task, all of a prompt together, with their finished records and what is not asked for again."""

    pairs: list[PairRecord]
    known: dict[Workflow, dict[str, Row]]
    given_up: dict[Workflow, set[str]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a task has brought; `down` says why it ended before its time."""

    rows: dict[Workflow, list[Row]]
    rejects: list[Reject]
    annotated: int
    tally: Tally
    engine: str
    model: str
    down: str | None = None


def annotate_on_ray(config: AnnotateConfig, cluster: Cluster, make_engine: MakeEngine) -> dict[str, Any]:
    """As `runner.annotate`, by engines in actors; the summary adds up what all of them did.

    Raises:
        ClusterError: no cluster, or the engine could not be made there.
        DataFileError, EngineDown, OSError: as `runner.annotate`.
    """
    teacher = Teacher(engine=_Elsewhere())
    config = replace(config, metadata=config.metadata.resolve())  # the other machines have another current folder
    with ExitStack() as stack:
        files = Files(config, stack)
        home = Annotator(teacher, config.metadata.parent, files.stores, files.given_up, files.inputs)
        try:
            with files.progress() as bar:
                portions = list(_portions(_pending(files, home, bar), files, home, cluster.batch))
                make_worker = partial(_Worker, config, make_engine)
                for found in run_tasks(cluster, make_worker, portions):
                    _keep(found, files, home)
                    bar.update(len(found.task.pairs) if isinstance(found, Lost) else found.annotated)
                    bar.set_postfix_str(postfix(home.counts, teacher), refresh=False)
        finally:
            summary = summarise(home.counts, teacher, config, files.stores)
    return summary


class _Elsewhere:
    """Stands for the engines in the actors, under the name and model that they give."""

    name = model = "none"

    async def chat(self, request: ChatRequest) -> ChatReply:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def _pending(files: Files, home: Annotator, bar: tqdm) -> Iterator[PairRecord]:
    for pair in files.pairs(home.counts):
        if home.is_complete(pair):
            home.counts.pairs += 1
            bar.update()
        else:
            yield pair


def _portions(pairs: Iterable[PairRecord], files: Files, home: Annotator, size: int) -> Iterator[Portion]:
    """Portions of `size` pairs or a few more: the questions of a prompt are asked in one place."""
    by_prompt: dict[str, list[PairRecord]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.prompt_id, []).append(pair)
    portion: list[PairRecord] = []
    for group in by_prompt.values():
        portion += group
        if len(portion) >= size:
            yield _with_known(portion, files, home)
            portion = []
    if portion:
        yield _with_known(portion, files, home)


def _with_known(pairs: list[PairRecord], files: Files, home: Annotator) -> Portion:
    known: dict[Workflow, dict[str, Row]] = {}
    given_up: dict[Workflow, set[str]] = {}
    for name, source in home.sources.items():
        keys = dict.fromkeys(_key(name, pair) for pair in pairs)
        store = files.stores.get(name)
        rows = {key: source.get(key) for key in keys if store is None or key in store.done}
        known[name] = {key: row for key, row in rows.items() if row is not None}
        given_up[name] = files.given_up.get(name, set()).intersection(keys)
    return Portion(pairs, known, given_up)


def _key(name: Workflow, pair: PairRecord) -> str:
    return pair.prompt_id if name == "t2ia_questions" else pair.pair_id


def _keep(found: Found | Lost[Portion], files: Files, home: Annotator) -> None:
    if isinstance(found, Lost):
        _reject_all(found, files, home)
        return
    for name, rows in found.rows.items():
        for row in rows:
            files.stores[name].append(row)
    for name, key, reason, details in found.rejects:
        files.stores[name].reject(key, reason, **details)
        home.counts.reject(name, details["kind"])
    home.counts.pairs += found.annotated
    home.counts.annotated += found.annotated
    home.teacher.tally.add(found.tally)
    home.teacher.engine.name, home.teacher.engine.model = found.engine, found.model
    if found.down:
        raise EngineDown(found.down)


def _reject_all(lost: Lost[Portion], files: Files, home: Annotator) -> None:
    """Everything that a lost task should have brought; as failures of the engine they are tried again."""
    for name, store in files.stores.items():
        missing = dict.fromkeys(_key(name, pair) for pair in lost.task.pairs)
        for key in missing.keys() - store.done - files.given_up[name]:
            store.reject(key, lost.reason, kind="engine")
            home.counts.reject(name, "engine")
    home.counts.pairs += len(lost.task.pairs)


class _Ledger:
    """Records of a workflow in an actor: those that came with the task, and new ones to send back."""

    def __init__(self, name: Workflow, known: dict[str, Row], rejects: list[Reject]) -> None:
        self.name = name
        self.known = known
        self.done = set(known)
        self.rows: list[Row] = []
        self.rejects = rejects

    def get(self, key: str) -> Row | None:
        return self.known.get(key)

    def append(self, row: Row) -> None:
        key = str(row[KEYS[self.name]])
        self.known[key] = row
        self.done.add(key)
        self.rows.append(row)

    def reject(self, key: str, reason: str, **details: Any) -> None:
        self.rejects.append((self.name, key, reason, details))


class _Worker:
    """An engine in an actor, and the event loop that it lives in."""

    def __init__(self, config: AnnotateConfig, make_engine: MakeEngine) -> None:
        self.config = config
        self.engine = make_engine()
        self.loop = asyncio.Runner()

    def __call__(self, portion: Portion) -> Found:
        teacher = Teacher(engine=self.engine, attempts=self.config.attempts)
        rejects: list[Reject] = []
        ledgers = {name: _Ledger(name, portion.known[name], rejects) for name in self.config.workflows}
        inputs = {name: rows for name, rows in portion.known.items() if name not in ledgers}
        annotator = Annotator(teacher, self.config.metadata.parent, ledgers, portion.given_up, inputs)
        down = None
        try:
            self.loop.run(annotator.work(iter(portion.pairs), self.config.concurrency, tqdm(disable=True)))
        except EngineDown as error:
            down = str(error)
        return Found(
            rows={name: ledger.rows for name, ledger in ledgers.items()},
            rejects=rejects,
            annotated=annotator.counts.annotated,
            tally=teacher.tally,
            engine=self.engine.name,
            model=self.engine.model,
            down=down,
        )
