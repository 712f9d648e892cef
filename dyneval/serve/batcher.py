"""Dynamic micro-batching: pairs of many requests scored together, with a bounded queue in front of one worker thread.

A request whose body is there holds places in the queue while its images are decoded. Nothing that got its places is
dropped: it is scored, or its own request gave up on it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from dyneval.loaded_pairs import Failure, Pair, PassEnded
from dyneval.records import ScoreRecord

logger = logging.getLogger(__name__)

Judge = Callable[[Sequence[Pair]], Generator[tuple[int, PassEnded | ScoreRecord | Failure], None, None]]
"""`Scorer.score_stream`: scores pairs together; their passes as they end and one result each, by number."""

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
    passes: asyncio.Queue[PassEnded] | None
    """Gets what the passes find, as they end."""
    since: float = field(default_factory=time.monotonic)


class Places:
    """Places in the queue that one request holds."""

    def __init__(self, batcher: Batcher, count: int) -> None:
        self._batcher = batcher
        self.free = count

    def submit(
        self, pair: Pair, passes: asyncio.Queue[PassEnded] | None = None
    ) -> asyncio.Future[ScoreRecord | Failure]:
        """Queue a pair on one of the places; cancelling the future takes it out again."""
        self.free -= 1
        return self._batcher.enqueue(pair, passes)


class Batcher:
    """Collects pairs and scores them in batches; belongs to one event loop."""

    def __init__(
        self,
        judge: Judge,
        *,
        batch_size: int,
        queue: int,
        wait: float,
        patience: float | None = None,
        warm_up: Callable[[], float] | None = None,
    ) -> None:
        """Describe the queue.

        Args:
            judge: scores a batch; called in a thread of its own, one batch at a time.
            batch_size: most pairs in a batch.
            queue: most places held at a time.
            wait: seconds that the first pair of a batch waits for others.
            patience: no more are let in while scoring those that are here is expected to take more seconds than this;
                None: as long as there are places.
            warm_up: scores a first pair, in that thread too, and returns the seconds it took.
        """
        self._judge = judge
        self._batch_size = batch_size
        self._capacity = queue
        self._wait = wait
        self.patience = patience
        self._warm_up = warm_up
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._seconds_a_pair: float | None = None
        self._broken = 0
        self.error: Exception | None = None
        """What the first pair ended in; the batcher is of no use then."""
        self.first_pair = 0.0
        """Seconds that the first pair took, 0 before it is scored."""
        self.warm = asyncio.Event()
        """Set when the first pair was scored, where that is to be waited for."""
        if warm_up is None:
            self.warm.set()
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
        return working and self.warm.is_set() and not self._closing and self._broken < _BROKEN_AFTER

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
        self.check(count)
        self.held += count
        places = Places(self, count)
        try:
            yield places
        finally:
            self.held -= places.free

    def check(self, count: int = 1) -> None:
        """Raises Busy where there are no `count` places."""
        ahead = (len(self._queue) + self.running) * (self._seconds_a_pair or 0)
        if self.held + count > self._capacity or (self.patience is not None and ahead > self.patience):
            raise Busy(max(1, min(math.ceil(ahead), _LONGEST_RETRY)))

    def enqueue(self, pair: Pair, passes: asyncio.Queue[PassEnded] | None) -> asyncio.Future[ScoreRecord | Failure]:
        """Put a pair into the queue, on a place that is held already."""
        future: asyncio.Future[ScoreRecord | Failure] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(replace(pair, is_wanted=lambda: not future.done()), future, passes)
        waiting.future.add_done_callback(lambda _: self._leave(waiting))
        self._queue.append(waiting)
        self._arrived.set()
        return waiting.future

    def _leave(self, waiting: _Waiting) -> None:
        """Free the place of a pair that nobody waits for any more."""
        if waiting in self._queue:
            self._queue.remove(waiting)
            self.held -= 1

    async def _work(self) -> None:
        if self._warm_up is not None:
            run = asyncio.get_running_loop().run_in_executor
            try:
                self.first_pair = self._seconds_a_pair = await run(self._executor, self._warm_up)
            except Exception as error:  # told by whoever runs the server
                self.error = error
                return
            self.warm.set()
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
        try:
            results = await loop.run_in_executor(self._executor, self._judged, batch, loop)
        finally:
            self.running = 0
        for waiting, result in zip(batch, results, strict=True):
            _settle(waiting.future, result)
        if None not in results:
            self._measure(len(batch), time.monotonic() - started)

    def _judged(
        self, batch: Sequence[_Waiting], loop: asyncio.AbstractEventLoop
    ) -> list[ScoreRecord | Failure | JudgeError | None]:
        """Results of a batch; None of one that nobody waits for.

        Where the student breaks on a batch each pair is tried alone, so only the culprit fails.
        """
        found: dict[int, ScoreRecord | Failure] = {}
        try:
            with closing(self._judge([one.pair for one in batch])) as events:
                for number, event in events:
                    passes = batch[number].passes
                    if not isinstance(event, PassEnded):
                        found[number] = event
                    elif passes is not None:
                        loop.call_soon_threadsafe(passes.put_nowait, event)
                    if all(one.future.done() for one in batch):
                        break
        except Exception:
            logger.exception("the student broke on a batch of %d", len(batch))
            if len(batch) > 1:
                return [None if one.future.done() else self._judged([one], loop)[0] for one in batch]
            self._broken += 1
            return [JudgeError("the student broke on this pair")]
        self._broken = 0
        return [found.get(number) for number in range(len(batch))]

    def _measure(self, pairs: int, seconds: float) -> None:
        a_pair = seconds / pairs
        past = a_pair if self._seconds_a_pair is None else self._seconds_a_pair
        self._seconds_a_pair = _MEMORY * past + (1 - _MEMORY) * a_pair
        self.on_batch(pairs, seconds)


def _settle(future: asyncio.Future[ScoreRecord | Failure], result: ScoreRecord | Failure | JudgeError | None) -> None:
    if future.done():  # its request gave up
        return
    if isinstance(result, ScoreRecord | Failure):
        future.set_result(result)
    else:
        future.set_exception(result or JudgeError("the student gave no result"))
