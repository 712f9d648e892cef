"""Micro-batching: pairs of many requests are scored together, behind a queue of bounded length.

A student scores 16 images in much less than 16 times the time of one (benchmarks/serving.py: 2.8 times as many a
second), but requests bring one image each. So pairs wait a moment for others, and each judge takes a batch from the one
queue when it is free; the fastest judge does most. A request holds places in the queue while its images are decoded. A
pair that has its place is never dropped: it is scored, or its own request gives up on it.

All of the state belongs to one event loop, so nothing here is locked. Only `_judged` runs in threads.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace

from dyneval.loaded_pairs import Failure, LoadedPair, PassEnded
from dyneval.records import ScoreRecord
from dyneval.serve.places import PlacePool
from dyneval.tokens import prompt_line

logger = logging.getLogger(__name__)

Event = PassEnded | ScoreRecord | Failure
ScoreStream = Callable[[Sequence[LoadedPair]], Generator[tuple[int, Event], None, None]]
"""`Scorer.score_stream`, or the like of it: scores pairs together, and yields passes as they end and one result a pair,
each with the number of its pair. Raises JudgeGone where the judge ends; it may be called again after that."""

_WEIGHT_OF_PAST = 0.7
"""Weight of the past in the running mean of the seconds that a pair takes."""
_LONGEST_RETRY = 60
"""Seconds that Retry-After asks for at most."""
# One pair may break the student by itself. Three in a row, each tried alone, have nothing in common but the student.
_BROKEN_AFTER = 3
"""Pairs in a row that end in an exception, after which the student counts as broken."""


@dataclass(eq=False)
class Busy(Exception):
    """The queue is full; there should be places in `retry_after` seconds, at least 1."""

    retry_after: int


class StudentBroke(RuntimeError):
    """The student broke on a pair. The message is for the client; the traceback stands in the log alone."""


class JudgeGone(Exception):
    """A judge ended in the middle of its work, such as a process that was killed; it can be called again."""


class JudgeLost(JudgeGone):
    """A judge ended and does not come back, so nothing may be given to it any more."""


_Result = ScoreRecord | Failure | StudentBroke | None
"""What became of a pair; None: nobody waited for it any more."""


@dataclass(slots=True, eq=False)
class _QueuedPair:
    """A pair in the queue, or in the batch of a judge."""

    pair: LoadedPair
    future: asyncio.Future[ScoreRecord | Failure]
    """Its result; cancelled or done where nobody waits for it any more."""
    passes: asyncio.Queue[PassEnded] | None
    """Gets what the passes find, as they end; None: nobody wants to know."""
    since: float = field(default_factory=time.monotonic)
    """When it came, in seconds of the monotonic clock."""
    prompt: str = ""
    """On one line, as students remember the questions of prompts."""
    is_held_up: bool = False
    """The judge that had it is gone; it goes to another one, once."""


@dataclass(slots=True, eq=False)
class Places:
    """Places in the queue that one request holds."""

    batcher: Batcher
    pool: PlacePool
    free: int
    """Places that no pair was queued on yet."""

    def submit(
        self, pair: LoadedPair, passes: asyncio.Queue[PassEnded] | None = None
    ) -> asyncio.Future[ScoreRecord | Failure]:
        """Queue a pair on one of the places.

        Args:
            pair: the pair, its image decoded.
            passes: gets each pass of the pair as it ends; None: passes are not told.

        Returns:
            The future result. Cancelling it takes the pair out of the queue, or ends its batch when all others of the
            batch were cancelled, too. It raises StudentBroke where the student fails on this pair.
        """
        self.free -= 1
        return self.batcher.enqueue(pair, passes)

    def give_back(self) -> None:
        """Give back the places that no pair was queued on."""
        self.pool.give(self.free)
        self.free = 0


class Batcher:
    """Collects pairs and scores them in batches; belongs to one event loop.

    Attributes:
        patience: no more pairs are let in while those that are here are expected to take more seconds than this; None:
            as long as there are places.
        first_pair: seconds that the first pair took, 0 before it is scored.
        warm: set when the first pair was scored, where that is to be waited for.
        running: pairs of the batches at work.
        error: what the first pair ended in, or the end of the last judge; the batcher is of no use then.
        on_batch: is told the size and the seconds of each batch.
        filling: pairs from one client that keep the judges busy: a batch at work, one that waits, one on its way.
    """

    def __init__(
        self,
        *judges: ScoreStream,
        batch_size: int,
        queue: int,
        wait: float,
        patience: float | None = None,
        warm_up: Callable[[ScoreStream], float] | None = None,
        asks_once: bool = False,
    ) -> None:
        """Describe the queue; `start` begins to work.

        Args:
            judges: each scores a batch at a time; called in threads.
            batch_size: most pairs in a batch.
            queue: most places held at a time.
            wait: seconds that the first pair of a batch waits for others.
            patience: see the class.
            warm_up: scores a first pair with a judge, in a thread too, and returns the seconds it took.
            asks_once: judges remember each other's questions, so a prompt that one is being asked about is left to it
                until they are there. Images of one prompt are then held to the same questions, whoever scores them.
        """
        self._judges = judges
        self._batch_size = batch_size
        self._pool = PlacePool(queue)
        self._wait = wait
        self.patience = patience
        self._warm_up = warm_up
        self._asks_once = asks_once
        self._asking: set[str] = set()
        """Prompts whose questions a judge is being asked for."""
        self._queue: deque[_QueuedPair] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(len(judges), thread_name_prefix="judge")
        self._tasks: list[asyncio.Task[None]] = []
        self._idle = 0
        """Judges that are warm and without a batch."""
        self._alive = len(judges)
        self._closing = False
        self._seconds_a_pair: float | None = None
        self._broken = 0
        """Pairs in a row that the student broke on, each tried alone."""
        self.error: Exception | None = None
        self.first_pair = 0.0
        self.warm = asyncio.Event()
        if warm_up is None:
            self.warm.set()
        self.running = 0
        self.on_batch: Callable[[int, float], None] = lambda pairs, seconds: None
        together = batch_size * len(judges)
        self.filling = min(3 * together, together + queue)

    @property
    def ready(self) -> bool:
        """True while pairs are taken and the student is sound."""
        working = any(not task.done() for task in self._tasks)
        return working and self.warm.is_set() and not self._closing and self._broken < _BROKEN_AFTER

    @property
    def held(self) -> int:
        """Places taken: pairs that wait, or are being read."""
        return self._pool.places - self._pool.free

    def start(self) -> None:
        """Begin to work; call it in the event loop."""
        self._tasks = [asyncio.create_task(self._work(judge), name="batcher") for judge in self._judges]

    async def close(self) -> None:
        """Score what is in the queue, then end."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._tasks)
        self._executor.shutdown()

    @contextmanager
    def hold(self, count: int = 1) -> Iterator[Places]:
        """Hold places in the queue for a block; those not used by its end are given back.

        Raises:
            Busy: there are no `count` places, see `check`.
        """
        self.check(count)
        self._pool.free -= count
        places = Places(self, self._pool, count)
        try:
            yield places
        finally:
            places.give_back()

    async def place_in_turn(self) -> Places:
        """Take one place, behind those who waited before; the caller gives it back."""
        await self._pool.take_in_turn()
        return Places(self, self._pool, 1)

    def check(self, count: int = 1) -> None:
        """Raise Busy if there are no `count` places, or if a pair would wait for longer than `patience`."""
        ahead = (len(self._queue) + self.running) * (self._seconds_a_pair or 0) / max(1, self._alive)
        if not self._pool.has(count) or (self.patience is not None and ahead > self.patience):
            raise Busy(max(1, min(math.ceil(ahead), _LONGEST_RETRY)))

    def enqueue(
        self, pair: LoadedPair, passes: asyncio.Queue[PassEnded] | None
    ) -> asyncio.Future[ScoreRecord | Failure]:
        """Put a pair into the queue, on a place that is held already; see `Places.submit`."""
        future: asyncio.Future[ScoreRecord | Failure] = asyncio.get_running_loop().create_future()
        wanted = replace(pair, is_wanted=lambda: not future.done())
        queued = _QueuedPair(wanted, future, passes, prompt=prompt_line(pair.prompt))
        queued.future.add_done_callback(lambda _: self._leave(queued))
        self._queue.append(queued)
        self._arrived.set()
        if not self._alive:
            _settle(future, StudentBroke("the student is gone"))
        return future

    def _leave(self, queued: _QueuedPair) -> None:
        """Free the place of a pair that nobody waits for any more."""
        if queued in self._queue:
            self._queue.remove(queued)
            self._pool.give()
            self._arrived.set()

    async def _work(self, judge: ScoreStream) -> None:
        """Score a first pair with a judge, then batches, until the batcher closes or the judge does not come back."""
        if self._warm_up is not None:
            run = asyncio.get_running_loop().run_in_executor
            try:
                seconds = await run(self._executor, self._warm_up, judge)
            except Exception as error:  # `_end_one` logs it, or whoever runs the server raises it
                self._end_one(error)
                return
            if not self.warm.is_set():
                self.first_pair = self._seconds_a_pair = seconds
            self.warm.set()
        self._idle += 1
        while batch := await self._next_batch():
            self._idle -= 1
            try:
                await self._score(judge, batch)
            except JudgeGone as error:
                logger.error("%s", error)
                self._hand_on(batch)
                if isinstance(error, JudgeLost):
                    self._end_one(error)
                    return
            self._idle += 1

    def _end_one(self, error: Exception) -> None:
        """Count one judge less. Without any the server is of no use, and nobody may be left waiting for it."""
        self._alive -= 1
        if self._alive:
            logger.error("a judge is lost, %d are left: %s", self._alive, error)
            return
        self.error = error
        for queued in list(self._queue):
            _settle(queued.future, StudentBroke("the student is gone"))

    def _hand_on(self, batch: list[_QueuedPair]) -> None:
        """Put the batch of a judge that is gone in front of the queue."""
        for queued in reversed(batch):
            # A pair may be what killed the judge. Handed on without end, it would kill one judge after the other.
            if queued.is_held_up:
                _settle(queued.future, StudentBroke("the student broke on this pair"))
            elif not queued.future.done():
                queued.is_held_up = True
                # Its place was given back when the batch began. It has to wait in no turn again, so there may be one
                # pair more than places for a moment.
                self._pool.free -= 1
                self._queue.appendleft(queued)
        self._arrived.set()

    async def _next_batch(self) -> list[_QueuedPair]:
        """Wait for the next pairs that someone still waits for; returns none where there will be no more."""
        while True:
            free = [one for one in self._queue if one.prompt not in self._asking and not one.future.done()]
            rest = free[0].since + self._wait - time.monotonic() if free else None
            if rest is not None and (len(free) >= self._batch_size or rest <= 0 or self._closing):
                break
            if self._closing and not self._queue:
                return []
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._arrived.wait()
        # No more than this judge's share: one that took all would leave the other idle judges without work.
        taken = free[: min(self._batch_size, math.ceil(len(free) / self._idle))]
        for queued in taken:
            self._queue.remove(queued)
        self._pool.give(len(taken))
        self._arrived.set()  # the other idle judges look at what is left, or see that the queue is empty and closed
        return taken

    async def _score(self, judge: ScoreStream, batch: list[_QueuedPair]) -> None:
        """Score a batch in a thread and hand out its results. Raises JudgeGone."""
        asked = {queued.prompt for queued in batch} if self._asks_once else set()
        self._asking |= asked
        self.running += len(batch)
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._judged, judge, batch, loop)
        finally:
            self.running -= len(batch)
            self._are_known(asked)
        for queued, result in zip(batch, results, strict=True):
            _settle(queued.future, result)
        if None in results:  # a batch that was left in the middle says nothing about how long pairs take
            return
        seconds = time.monotonic() - started
        a_pair = seconds / len(batch)
        past = a_pair if self._seconds_a_pair is None else self._seconds_a_pair
        self._seconds_a_pair = _WEIGHT_OF_PAST * past + (1 - _WEIGHT_OF_PAST) * a_pair
        self.on_batch(len(batch), seconds)

    def _are_known(self, prompts: set[str]) -> None:
        """Let pairs of these prompts go to any judge: their questions are there, or there will be none."""
        if not self._asking.isdisjoint(prompts):
            self._asking -= prompts
            self._arrived.set()

    def _judged(
        self, judge: ScoreStream, batch: Sequence[_QueuedPair], loop: asyncio.AbstractEventLoop
    ) -> list[_Result]:
        """Score a batch, in a thread. Raises JudgeGone.

        Where the student breaks on a batch each pair is tried alone, so only the culprit fails.
        """
        found: dict[int, ScoreRecord | Failure] = {}
        try:
            with closing(judge([one.pair for one in batch])) as events:
                for number, event in events:
                    if isinstance(event, PassEnded):
                        # Queues and futures of asyncio may only be touched in their own loop's thread.
                        loop.call_soon_threadsafe(self._pass_ended, batch[number], event)
                    else:
                        found[number] = event
                    if all(one.future.done() for one in batch):
                        break
        except JudgeGone:
            raise
        except Exception:
            logger.exception("the student broke on a batch of %d", len(batch))
            if len(batch) > 1:
                return [None if one.future.done() else self._judged(judge, [one], loop)[0] for one in batch]
            self._broken += 1
            return [StudentBroke("the student broke on this pair")]
        self._broken = 0
        return [found.get(number) for number in range(len(batch))]

    def _pass_ended(self, queued: _QueuedPair, event: PassEnded) -> None:
        """Tell a pass to whoever watches the pair."""
        if event.name == "t2ia_questions":
            self._are_known({queued.prompt})
        if queued.passes is not None:
            queued.passes.put_nowait(event)


def _settle(future: asyncio.Future[ScoreRecord | Failure], result: _Result) -> None:
    """Answer the request of a pair, unless it gave up."""
    if future.done():
        return
    if isinstance(result, ScoreRecord | Failure):
        future.set_result(result)
    else:
        future.set_exception(result or StudentBroke("the student gave no result"))
