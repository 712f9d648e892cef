"""Dynamic micro-batching: pairs of many requests scored together, with a bounded queue in front of one worker thread.

A request first holds places in the queue, then reads its body into them, so what is being read counts as well. Nothing
that got its places is dropped: it is scored, or its own request gave up on it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyneval.loaded_pairs import Failure, Pair
    from dyneval.records import ScoreRecord

logger = logging.getLogger(__name__)

Found = dict[str, Any]
Report = Callable[["Pair", str, Found], None]
"""Called as passes end, with the pair, the name of the pass and what it found; from any thread."""
Judge = Callable[[Sequence["Pair"], Report], "Iterator[ScoreRecord | Failure]"]
"""Scores pairs in one go: one result each, in order."""

_MEMORY = 0.7
"""Weight of the past in the running mean of the seconds a pair takes."""
_LONGEST_RETRY = 60
_BROKEN_AFTER = 3
"""So many pairs in a row that end in an exception mean that the student, not the pairs, is at fault."""


class Busy(Exception):
    """The queue is full; `retry_after` is in how many seconds there should be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class JudgeError(RuntimeError):
    """The student broke on a pair; the log has the traceback."""


@dataclass(slots=True, eq=False)
class _Waiting:
    pair: Pair
    future: asyncio.Future[ScoreRecord | Failure]
    on_pass: Callable[[str, Found], None] | None
    since: float = field(default_factory=time.monotonic)


class Places:
    """Places in the queue that one request holds."""

    def __init__(self, batcher: Batcher, count: int) -> None:
        self._batcher = batcher
        self.free = 0
        self.extend(count)

    def extend(self, count: int) -> None:
        """Hold `count` more. Raises Busy when there are not as many."""
        self._batcher.take(count)
        self.free += count

    def submit(
        self, pair: Pair, on_pass: Callable[[str, Found], None] | None = None
    ) -> asyncio.Future[ScoreRecord | Failure]:
        """Queue a pair on one of the places; cancelling the future takes it out again."""
        self.free -= 1
        return self._batcher.enqueue(pair, on_pass)


class Batcher:
    """Collects pairs and scores them in batches; belongs to one event loop."""

    def __init__(
        self,
        judge: Judge,
        *,
        batch_size: int,
        queue: int,
        wait: float,
        patience: float,
        seconds_a_pair: float | None = None,
    ) -> None:
        """Describe the queue.

        Args:
            judge: scores a batch; called in a thread of its own, one batch at a time.
            batch_size: most pairs in a batch.
            queue: most places held at a time.
            wait: seconds that the first pair of a batch waits for others.
            patience: no more are let in while scoring those that are here is expected to take more seconds than this.
            seconds_a_pair: what a pair takes, as far as is known; measured from then on.
        """
        self._judge = judge
        self._batch_size = batch_size
        self._capacity = queue
        self._wait = wait
        self._patience = patience
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._seconds_a_pair = seconds_a_pair
        self._broken = 0
        self.held = 0
        """Places taken: pairs that wait, or are being read."""
        self.running = 0
        """Pairs of the batch at work."""
        self.on_batch: Callable[[int, float], None] = lambda pairs, seconds: None
        """Told the size and the seconds of each batch."""

    @property
    def ready(self) -> bool:
        """True while pairs are taken and the student is sound."""
        working = self._task is not None and not self._task.done()
        return working and not self._closing and self._broken < _BROKEN_AFTER

    def start(self) -> None:
        """Begin to work; call it in the event loop."""
        self._task = asyncio.create_task(self._work(), name="batcher")

    async def close(self) -> None:
        """Score what is in the queue, then end."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._executor.shutdown()

    @contextmanager
    def hold(self, count: int = 1) -> Iterator[Places]:
        """Hold places in the queue; those not used by the end of the block are given back. Raises Busy."""
        places = Places(self, count)
        try:
            yield places
        finally:
            self.held -= places.free

    def take(self, count: int) -> None:
        """Count `count` places as held. Raises Busy."""
        ahead = (len(self._queue) + self.running) * (self._seconds_a_pair or 0)
        if self.held + count > self._capacity or ahead > self._patience:
            raise Busy(max(1, min(math.ceil(ahead), _LONGEST_RETRY)))
        self.held += count

    def enqueue(
        self, pair: Pair, on_pass: Callable[[str, Found], None] | None
    ) -> asyncio.Future[ScoreRecord | Failure]:
        """Put a pair into the queue, on a place that is held already."""
        waiting = _Waiting(pair, asyncio.get_running_loop().create_future(), on_pass)
        self._queue.append(waiting)
        self._arrived.set()
        return waiting.future

    async def _work(self) -> None:
        while self._queue or not self._closing:
            batch = await self._next_batch()
            if batch:
                await self._score(batch)

    async def _next_batch(self) -> list[_Waiting]:
        """The next pairs that someone still waits for; may be none."""
        while not self._queue and not self._closing:
            await self._news(None)
        while self._queue and len(self._queue) < self._batch_size and not self._closing:
            rest = self._queue[0].since + self._wait - time.monotonic()
            if rest <= 0 or not await self._news(rest):
                break
        taken = [self._queue.popleft() for _ in range(min(self._batch_size, len(self._queue)))]
        self.held -= len(taken)
        return [waiting for waiting in taken if not waiting.future.done()]

    async def _news(self, seconds: float | None) -> bool:
        """Wait for another pair or the end; False when none came in time."""
        self._arrived.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    async def _score(self, batch: list[_Waiting]) -> None:
        self.running = len(batch)
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        watched = {id(waiting.pair): waiting.on_pass for waiting in batch if waiting.on_pass}

        def report(pair: Pair, name: str, found: Found) -> None:
            if on_pass := watched.get(id(pair)):
                loop.call_soon_threadsafe(on_pass, name, found)

        try:
            results = await loop.run_in_executor(self._executor, self._judged, [one.pair for one in batch], report)
        finally:
            self.running = 0
        for waiting, result in zip(batch, results, strict=True):
            _settle(waiting.future, result)
        self._measure(len(batch), time.monotonic() - started)

    def _judged(self, pairs: list[Pair], report: Report) -> list[ScoreRecord | Failure | JudgeError]:
        """Results of a batch; where the student breaks on it each pair is tried alone, so only the culprit fails."""
        try:
            results: list[ScoreRecord | Failure | JudgeError] = [*self._judge(pairs, report)]
        except Exception:
            logger.exception("the student broke on a batch of %d", len(pairs))
            if len(pairs) > 1:
                return [result for pair in pairs for result in self._judged([pair], report)]
            self._broken += 1
            return [JudgeError("the student broke on this pair")]
        self._broken = 0
        return results

    def _measure(self, pairs: int, seconds: float) -> None:
        a_pair = seconds / pairs
        past = a_pair if self._seconds_a_pair is None else self._seconds_a_pair
        self._seconds_a_pair = _MEMORY * past + (1 - _MEMORY) * a_pair
        self.on_batch(pairs, seconds)


def _settle(future: asyncio.Future[ScoreRecord | Failure], result: ScoreRecord | Failure | JudgeError) -> None:
    if future.done():  # its request gave up
        return
    if isinstance(result, JudgeError):
        future.set_exception(result)
    else:
        future.set_result(result)
