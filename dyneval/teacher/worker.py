"""The worker of Step 3: one engine, and the event loop in which it is asked.

The runner owns the annotation files and is their only writer; a worker in the same process or on another machine sends
it events (`WorkerEvent`). Annotating is asynchronous and the runner is not, so `AnnotatingWorker.work` is a generator
that runs the loop until there is something to hand over. If it ended without closing the loop's tasks in order, replies
that were paid for would be lost on Ctrl-C.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dyneval.llm.chat import ChatEngine
from dyneval.records import PairRecord, Workflow
from dyneval.teacher.annotating import (
    AnnotationEvent,
    AnnotationSource,
    Annotator,
    EncodedAnnotation,
    Ledger,
    PairsPassed,
)
from dyneval.teacher.asking import Teacher

MakeEngine = Callable[[], ChatEngine]

GATHER = 0.01
"""Seconds in which events are gathered before they are handed on: leaving the event loop for every reply of a fast
server took a tenth of the time."""


@dataclass(frozen=True, slots=True)
class AnnotationTask:
    """Pairs for one task, all of a prompt together, and what is known of them.

    Attributes:
        pairs: the pairs.
        known: finished annotations by workflow, of the workflows that are run and of those that these need: the files,
            where the worker shares them with their writer, else copies of the records.
        done: keys of the finished annotations, by workflow that is run; the worker adds those that it makes.
        given_up: keys that are not asked for again, by workflow that is run; the worker adds what it gives up on.
    """

    pairs: Iterable[PairRecord]
    known: Mapping[Workflow, AnnotationSource]
    done: Mapping[Workflow, set[str]]
    given_up: Mapping[Workflow, set[str]]


@dataclass(frozen=True, slots=True)
class EngineName:
    """Names of the engine and of its model; the first event of a task."""

    engine: str
    model: str


@dataclass(frozen=True, slots=True)
class EngineNotes:
    """What an engine found out about its servers, if it keeps `notes`; the last event of a task."""

    notes: tuple[str, ...]


WorkerEvent = AnnotationEvent | EngineName | EngineNotes


class AnnotatingWorker:
    """Asks an engine about pairs, see `dyneval.work.executors`."""

    def __init__(self, root: Path, concurrency: int, attempts: int, make_engine: MakeEngine, device: str) -> None:
        """Make the engine, which knows the device: it is one of its settings.

        Args:
            root: folder of the images, which they may not leave.
            concurrency: pairs at work at once.
            attempts: how often the teacher is asked before a reply counts as rejected.
            make_engine: pickled where the worker is in another process.
            device: not used; all workers are made with one.
        """
        self.root = root
        self.concurrency = concurrency
        self.attempts = attempts
        self.engine = make_engine()
        self.loop = asyncio.new_event_loop()

    def work(self, task: AnnotationTask) -> Generator[WorkerEvent, None, None]:
        """Annotate pairs, several at once, and yield events as they come.

        Raises:
            EngineStopped: the engine is gone; what was found until then has been yielded.
            KeyboardInterrupt: Ctrl-C or SIGTERM, in the same way.
        """
        teacher = Teacher(engine=self.engine, attempts=self.attempts)
        events: deque[WorkerEvent] = deque([EngineName(self.engine.name, self.engine.model)])
        more = asyncio.Event()

        def tell(event: AnnotationEvent) -> None:
            # The first event since the last hand-over starts the wait; those that come during it go along.
            if not events:
                self.loop.call_later(GATHER, more.set)
            events.append(event)

        ledgers = {
            name: Ledger(name=name, known=task.known[name], done=done, tell=tell) for name, done in task.done.items()
        }
        annotator = Annotator(
            teacher=teacher,
            root=self.root,
            ledgers=ledgers,
            given_up=task.given_up,
            sources={**task.known, **ledgers},
            tell=tell,
        )
        annotating = self.loop.create_task(annotator.work(iter(task.pairs), self.concurrency))
        annotating.add_done_callback(lambda _: more.set())
        with _ended_in_order(self.loop, annotating) as interrupted:
            while events or not annotating.done():
                while events:
                    event = events.popleft()
                    yield event
                    # The runner has taken the event when it asks for the next one, so the line is in the file.
                    if isinstance(event, EncodedAnnotation):
                        ledgers[event.workflow].written(event.key)
                more.clear()
                if not annotating.done():
                    self.loop.run_until_complete(more.wait())
        yield PairsPassed(0, 0, teacher.tally)
        yield EngineNotes(tuple(getattr(self.engine, "notes", ())))
        if interrupted:
            raise KeyboardInterrupt
        annotating.result()  # raises what the annotator raised, after its events have been handed over

    def close(self) -> None:
        """Close the engine."""
        self.loop.run_until_complete(self.engine.close())
        self.loop.close()


@contextmanager
def _ended_in_order(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> Iterator[list[signal.Signals]]:
    """Cancel the task on Ctrl-C, on SIGTERM (Slurm's way to end a job), and when the caller stops taking events.

    Yields the list of the signals that came.
    """
    came: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        came.append(number)
        task.cancel()

    # Python lets only the main thread set signal handlers; a worker in another thread is ended by its caller.
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
            # remove_signal_handler sets Python's default, so the handler of before has to come after it.
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
