"""The worker of Step 3: an engine and the event loop that it lives in; what it finds goes back to the files' writer."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyneval.llm.chat import ChatEngine, TokenTally
from dyneval.records import Annotation, PairRecord, Reject, Workflow
from dyneval.teacher.annotating import Annotator, Source
from dyneval.teacher.asking import Teacher

MakeEngine = Callable[[], ChatEngine]

GATHER = 0.01
"""Seconds in which what is found is gathered before it is handed on: leaving the event loop for every reply of a fast
server took a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Pairs for one task, all of a prompt together, and what is known of them.

    Attributes:
        known: finished records by workflow, of the workflows that are run and of those that these need: the files,
            where the worker shares them with their writer, else copies of the records.
        done: keys of the finished records, by workflow that is run; the worker adds those that it makes.
        given_up: keys that are not asked for again, by workflow that is run; the worker adds what it gives up on.
    """

    pairs: Iterable[PairRecord]
    known: Mapping[Workflow, Source]
    done: Mapping[Workflow, set[str]]
    given_up: Mapping[Workflow, set[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Names of the engine and of its model; said first."""

    engine: str
    model: str


@dataclass(frozen=True, slots=True)
class Made:
    """A finished record, checked, as it stands in the file."""

    workflow: Workflow
    key: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be made, and why."""

    workflow: Workflow
    reject: Reject


@dataclass(frozen=True, slots=True)
class Passed:
    """Pairs gone through, those among them that were not finished before, and what was asked since it was last told."""

    pairs: int
    annotated: int
    asked: TokenTally


@dataclass(frozen=True, slots=True)
class Noted:
    """What an engine found out about its servers, where it tells (`notes`); said last."""

    notes: tuple[str, ...]


Found = Asked | Made | Rejected | Passed | Noted


class AnnotatingWorker:
    """Asks an engine about pairs, see `dyneval.work.executors`."""

    def __init__(self, root: Path, concurrency: int, attempts: int, make_engine: MakeEngine, device: str) -> None:
        """Make the engine, which knows the device: it is one of its settings.

        Args:
            root: folder of the images, which they may not leave.
            concurrency: pairs at work at once.
            attempts: how often the teacher is asked before a reply counts as rejected.
            make_engine: pickled where the worker is in another process.
            device: not looked at.
        """
        self.root = root
        self.concurrency = concurrency
        self.attempts = attempts
        self.engine = make_engine()
        self.loop = asyncio.new_event_loop()

    def work(self, portion: Portion) -> Generator[Found, None, None]:
        """Annotate pairs, several at once, and yield what is found as it comes.

        Raises:
            EngineStopped: the engine is gone; what was found until then has been yielded.
            KeyboardInterrupt: Ctrl-C or SIGTERM, in the same way.
        """
        teacher = Teacher(engine=self.engine, attempts=self.attempts)
        found: deque[Found] = deque([Asked(self.engine.name, self.engine.model)])
        more = asyncio.Event()

        def tell(one: Found) -> None:
            found.append(one)
            more.set()

        def passed(pairs: int, annotated: int) -> None:
            tell(Passed(pairs, annotated, teacher.tally.taken()))

        ledgers = {name: _Ledger(name, portion.known[name], done, tell) for name, done in portion.done.items()}
        inputs = {name: rows for name, rows in portion.known.items() if name not in ledgers}
        annotator = Annotator(teacher, self.root, ledgers, portion.given_up, inputs, passed)
        task = self.loop.create_task(annotator.work(iter(portion.pairs), self.concurrency))
        task.add_done_callback(lambda _: more.set())
        with _ended_in_order(self.loop, task) as interrupted:
            while found or not task.done():
                while found:
                    one = found.popleft()
                    yield one
                    if isinstance(one, Made):
                        ledgers[one.workflow].handed_on(one.key)
                more.clear()
                if not task.done():
                    self.loop.run_until_complete(_some(more))
        yield Passed(0, 0, teacher.tally)
        yield Noted(tuple(getattr(self.engine, "notes", ())))
        if interrupted:
            raise KeyboardInterrupt
        task.result()

    def close(self) -> None:
        """Close the engine."""
        self.loop.run_until_complete(self.engine.close())
        self.loop.close()


async def _some(more: asyncio.Event) -> None:
    await more.wait()
    await asyncio.sleep(GATHER)


@contextmanager
def _ended_in_order(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> Iterator[list[signal.Signals]]:
    """Cancel the task on Ctrl-C, on SIGTERM (Slurm's way to end a job), and where nobody waits for it any more.

    Yields the signals that came. In a thread beside the main one no signals are heard.
    """
    came: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        came.append(number)
        task.cancel()

    heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in heard}
    for number in heard:
        loop.add_signal_handler(number, cancel, number)
    try:
        yield came
    finally:
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


class _Ledger:
    """Records of a workflow as the worker knows them: those that there are, and new ones on their way to the file."""

    def __init__(self, name: Workflow, known: Source, done: set[str], tell: Callable[[Found], None]) -> None:
        self.name = name
        self.done = done
        self._known = known
        self._tell = tell
        self._new: dict[str, Annotation] = {}

    def get(self, key: str) -> Any:
        return self._new.get(key) or self._known.get(key)

    def append(self, record: Annotation) -> None:
        line = record.encode()  # what does not fit its type is told here, with the reply at hand
        key = str(getattr(record, record.KEY))
        self._new[key] = record
        self.done.add(key)
        self._tell(Made(self.name, key, line))

    def reject(self, reject: Reject) -> None:
        self._tell(Rejected(self.name, reject))

    def handed_on(self, key: str) -> None:
        """A record is written: where `known` is its file, it is read from there and need not be held."""
        if not isinstance(self._known, dict):
            self._new.pop(key, None)
