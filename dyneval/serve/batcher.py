"""Dynamic micro-batching: pairs of many requests scored together, with a bounded queue in front of one or more judges.

A request whose body is there holds places in the queue while its images are decoded. Nothing that got its places is
dropped: it is scored, or its own request gave up on it. Judges take from the one queue as they get free, so the fastest
does most.
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

from dyneval.loaded_pairs import Failure, Pair, PassEnded
from dyneval.records import ScoreRecord
from dyneval.serve.places import PlacePool
from dyneval.tokens import prompt_line

logger = logging.getLogger(__name__)

Event = PassEnded | ScoreRecord | Failure
ScoreStream = Callable[[Sequence[Pair]], Generator[tuple[int, Event], None, None]]
"""`Scorer.score_stream`: scores pairs together; their passes as they end and one result each, by number.
One that may end raises JudgeGone, and is called again."""

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


class StudentBroke(RuntimeError):
    """The student broke on a pair; the log has the traceback."""


class JudgeGone(Exception):
    """A judge ended in the middle of its work; `is_final`: it cannot be had again."""

    def __init__(self, reason: str, is_final: bool = False) -> None:
        super().__init__(reason)
        self.is_final = is_final


_Result = ScoreRecord | Failure | StudentBroke | None
"""What became of a pair; None: nobody waited for it any more."""


@dataclass(slots=True, eq=False)
class _QueuedPair:
    pair: Pair
    future: asyncio.Future[ScoreRecord | Failure]
    passes: asyncio.Queue[PassEnded] | None
    """Gets what the passes find, as they end."""
    since: float = field(default_factory=time.monotonic)
    prompt: str = ""
    """As questions are remembered by."""
    is_held_up: bool = False
    """The judge that had it is gone; it goes to another one, once."""


class Places:
    """Places in the queue that one request holds."""

    def __init__(self, batcher: Batcher, pool: PlacePool, count: int) -> None:
        self._batcher, self._pool = batcher, pool
        self.free = count

    def submit(
        self, pair: Pair, passes: asyncio.Queue[PassEnded] | None = None
    ) -> asyncio.Future[ScoreRecord | Failure]:
        """Queue a pair on one of the places; cancelling the future takes it out again."""
        self.free -= 1
        return self._batcher.enqueue(pair, passes)

    def give_back(self) -> None:
        """Give back what was not used."""
        self._pool.give(self.free)
        self.free = 0


class Batcher:
    """Collects pairs and scores them in batches; belongs to one event loop."""

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
        """Describe the queue.

        Args:
            judges: each scores a batch at a time; called in threads.
            batch_size: most pairs in a batch.
            queue: most places held at a time.
            wait: seconds that the first pair of a batch waits for others.
            patience: no more are let in while scoring those that are here is expected to take more seconds than this;
                None: as long as there are places.
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
        self.error: Exception | None = None
        """What the first pair ended in; the batcher is of no use then."""
        self.first_pair = 0.0
        """Seconds that the first pair took, 0 before it is scored."""
        self.warm = asyncio.Event()
        """Set when the first pair was scored, where that is to be waited for."""
        if warm_up is None:
            self.warm.set()
        self.running = 0
        """Pairs of the batches at work."""
        self.on_batch: Callable[[int, float], None] = lambda pairs, seconds: None
        """Told the size and the seconds of each batch."""

    @property
    def ready(self) -> bool:
        """True while pairs are taken and the student is sound."""
        working = any(not task.done() for task in self._tasks)
        return working and self.warm.is_set() and not self._closing and self._broken < _BROKEN_AFTER

    @property
    def held(self) -> int:
        """Places taken: pairs that wait, or are being read."""
        return self._pool.places - self._pool.free

    @property
    def filling(self) -> int:
        """So many pairs from one client keep the judges busy: a batch at work, one that waits, one on its way."""
        together = self._batch_size * len(self._judges)
        return min(3 * together, together + self._pool.places)

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
        """Hold places in the queue; those not used by the end of the block are given back. Raises Busy."""
        self.check(count)
        taken = self._pool.take(count)
        assert taken, "checked"
        places = Places(self, self._pool, count)
        try:
            yield places
        finally:
            places.give_back()

    async def place_in_turn(self) -> Places:
        """Take one place, behind those who waited before; whoever has it gives it back."""
        await self._pool.take_in_turn()
        return Places(self, self._pool, 1)

    def check(self, count: int = 1) -> None:
        """Raises Busy where there are no `count` places."""
        ahead = (len(self._queue) + self.running) * (self._seconds_a_pair or 0) / max(1, self._alive)
        if not self._pool.has(count) or (self.patience is not None and ahead > self.patience):
            raise Busy(max(1, min(math.ceil(ahead), _LONGEST_RETRY)))

    def enqueue(self, pair: Pair, passes: asyncio.Queue[PassEnded] | None) -> asyncio.Future[ScoreRecord | Failure]:
        """Put a pair into the queue, on a place that is held already."""
        future: asyncio.Future[ScoreRecord | Failure] = asyncio.get_running_loop().create_future()
        wanted = replace(pair, is_wanted=lambda: not future.done())
        waiting = _QueuedPair(wanted, future, passes, prompt=prompt_line(pair.prompt))
        waiting.future.add_done_callback(lambda _: self._leave(waiting))
        self._queue.append(waiting)
        self._arrived.set()
        if not self._alive:
            _settle(future, StudentBroke("the student is gone"))
        return future

    def _leave(self, waiting: _QueuedPair) -> None:
        """Free the place of a pair that nobody waits for any more."""
        if waiting in self._queue:
            self._queue.remove(waiting)
            self._pool.give()
            self._arrived.set()

    async def _work(self, judge: ScoreStream) -> None:
        if not await self._is_warm(judge):
            return
        while batch := await self._next_batch():
            self._idle -= 1
            try:
                await self._score(judge, batch)
            except JudgeGone as error:
                if self._is_lost(error, batch):
                    return
            self._idle += 1

    async def _is_warm(self, judge: ScoreStream) -> bool:
        """Score a first pair; False where the judge breaks on it."""
        if self._warm_up is not None:
            run = asyncio.get_running_loop().run_in_executor
            try:
                seconds = await run(self._executor, self._warm_up, judge)
            except Exception as error:  # told by whoever runs the server
                self._end_one(error)
                return False
            if not self.warm.is_set():
                self.first_pair = self._seconds_a_pair = seconds
            self.warm.set()
        self._idle += 1
        return True

    def _end_one(self, error: Exception) -> None:
        """One judge less; without any the server is of no use, and nobody must wait for it."""
        self._alive -= 1
        if self._alive:
            logger.error("a judge is lost, %d are left: %s", self._alive, error)
            return
        self.error = error
        for waiting in list(self._queue):
            _settle(waiting.future, StudentBroke("the student is gone"))

    def _is_lost(self, error: JudgeGone, batch: list[_QueuedPair]) -> bool:
        """Hand on what a judge had, but nothing twice: it may be why the judge is gone. True: it does not come back."""
        logger.error("%s", error)
        for waiting in reversed(batch):
            if waiting.is_held_up:
                _settle(waiting.future, StudentBroke("the student broke on this pair"))
            elif not waiting.future.done():
                waiting.is_held_up = True
                self._pool.free -= 1  # its place is gone; there may be one too many for a moment
                self._queue.appendleft(waiting)
        self._arrived.set()
        if error.is_final:
            self._end_one(error)
        return error.is_final

    async def _next_batch(self) -> list[_QueuedPair]:
        """The next pairs for an idle judge that someone still waits for; none where there will be no more."""
        while self._queue or not self._closing:
            free = [one for one in self._queue if one.prompt not in self._asking and not one.future.done()]
            rest = free[0].since + self._wait - time.monotonic() if free else None
            if rest is not None and (len(free) >= self._batch_size or rest <= 0 or self._closing):
                return self._taken(free)
            await self._news(rest)
        return []

    def _taken(self, free: list[_QueuedPair]) -> list[_QueuedPair]:
        """A batch of those, and no more than the share of one of the judges that are idle."""
        taken = free[: min(self._batch_size, math.ceil(len(free) / self._idle))]
        for waiting in taken:
            self._queue.remove(waiting)
        self._pool.give(len(taken))
        self._arrived.set()  # an idle judge looks whether that was the last one
        return taken

    async def _news(self, seconds: float | None) -> None:
        """Wait until something about the queue has changed, or so many seconds."""
        self._arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()

    async def _score(self, judge: ScoreStream, batch: list[_QueuedPair]) -> None:
        asked = {waiting.prompt for waiting in batch} if self._asks_once else set()
        self._asking |= asked
        self.running += len(batch)
        started = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._executor, self._judged, judge, batch, loop)
        finally:
            self.running -= len(batch)
            self._are_known(asked)
        for waiting, result in zip(batch, results, strict=True):
            _settle(waiting.future, result)
        if None not in results:
            self._measure(len(batch), time.monotonic() - started)

    def _are_known(self, prompts: set[str]) -> None:
        if not self._asking.isdisjoint(prompts):
            self._asking -= prompts
            self._arrived.set()

    def _judged(
        self, judge: ScoreStream, batch: Sequence[_QueuedPair], loop: asyncio.AbstractEventLoop
    ) -> list[_Result]:
        """Results of a batch; None of one that nobody waits for.

        Where the student breaks on a batch each pair is tried alone, so only the culprit fails.
        """
        found: dict[int, ScoreRecord | Failure] = {}
        try:
            with closing(judge([one.pair for one in batch])) as events:
                for number, event in events:
                    if isinstance(event, PassEnded):
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

    def _pass_ended(self, waiting: _QueuedPair, event: PassEnded) -> None:
        if event.name == "t2ia_questions":
            self._are_known({waiting.prompt})
        if waiting.passes is not None:
            waiting.passes.put_nowait(event)

    def _measure(self, pairs: int, seconds: float) -> None:
        a_pair = seconds / pairs
        past = a_pair if self._seconds_a_pair is None else self._seconds_a_pair
        self._seconds_a_pair = _MEMORY * past + (1 - _MEMORY) * a_pair
        self.on_batch(pairs, seconds)


def _settle(future: asyncio.Future[ScoreRecord | Failure], result: _Result) -> None:
    if future.done():  # its request gave up
        return
    if isinstance(result, ScoreRecord | Failure):
        future.set_result(result)
    else:
        future.set_exception(result or StudentBroke("the student gave no result"))
