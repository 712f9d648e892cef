"""The way of a pair from its request through the queue to its answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dyneval.loaded_pairs import Failure, Pair, PassEnded
from dyneval.records import ScoreRecord
from dyneval.serve.batcher import Batcher, Busy, Places, StudentBroke
from dyneval.serve.bodies import Upload, arrived, read_batch, read_one
from dyneval.serve.decoding import Decoders
from dyneval.serve.refusal import Refusal, busy, late, unprocessable, warming_up
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_Result = TypeVar("_Result")
_Row = dict[str, Any]
_Scored = ScoreRecord | Refusal
_Future = asyncio.Future[ScoreRecord | Failure]
_MOMENT = 10.0
"""Seconds that a request waits for the first pair of all; it is answered with 503 when that takes longer."""
_OUTCOMES = {"unprocessable": "failed", "unavailable": "not_decoded", "internal": "broken", "timeout": "timed_out"}
"""What refusals of a pair are counted as."""
_KEEP_ALIVE = 10.0
"""Seconds of silence after which a stream sends a comment, so that nothing in between takes it for dead."""


class Desk:
    """Takes requests, holds places in the queue for them, and answers each in time, or not at all when it has gone."""

    def __init__(self, batcher: Batcher, settings: ServerSettings, telemetry: Telemetry) -> None:
        self._batcher = batcher
        self._settings = settings
        self._pairs = telemetry.pairs
        self._decoders = Decoders(settings.max_pixels)

    def close(self) -> None:
        """End what decodes."""
        self._decoders.close()

    @property
    def timeout(self) -> float:
        """Seconds from a request's arrival to its answer."""
        return self._settings.seconds(self._batcher.first_pair)

    async def one(self, request: Request) -> _Row:
        """Score the pair of a request; returns its score record. Raises Refusal."""
        until = await self._until()
        upload = await arrived(read_one(request), until, self.timeout)
        (result,) = await self._results(request, [upload], until)
        if isinstance(result, Refusal):
            raise result
        return result.to_dict()

    async def many(self, request: Request) -> list[_Row]:
        """Score the pairs of a request; returns for each its record, or its pair_id and an error. Raises Refusal."""
        until = await self._until()
        uploads = await arrived(read_batch(request, self._settings.max_pairs), until, self.timeout)
        results = await self._results(request, uploads, until)
        return [
            {"pair_id": upload.pair_id, "error": result.to_dict()} if isinstance(result, Refusal) else result.to_dict()
            for upload, result in zip(uploads, results, strict=True)
        ]

    async def in_turn(self, uploads: Sequence[Upload]) -> list[_Scored]:
        """Score pairs, each of which waits for its place; returns for each its record or its refusal.

        One waits at a time: requests get places in turn however many pairs they bring, and a thousand pairs that wait
        are no thousand tasks. Who cancels it takes them out of the queue.
        """
        tasks: list[asyncio.Task[_Scored]] = []
        try:
            await self._batcher.warm.wait()
            async with asyncio.TaskGroup() as group:
                for upload in uploads:
                    place = await self._batcher.place_in_turn()
                    tasks.append(group.create_task(self._settled(upload, place)))
                    # Not in the task: one that is cancelled before it begins ends nothing.
                    tasks[-1].add_done_callback(lambda _, place=place: place.give_back())  # type: ignore[misc]
        except asyncio.CancelledError:
            self._pairs.labels("left").inc(len(uploads))
            raise
        results = [task.result() for task in tasks]
        for result in results:
            self._count(result)
        return results

    async def stream(self, request: Request) -> Response:
        """Score the pair of a request; answers with server-sent events: `queued`, a `pass` each, `result` or `error`.

        Raises Refusal before the stream begins.
        """
        until = await self._until()
        upload = await arrived(read_one(request), until, self.timeout)
        passes: asyncio.Queue[PassEnded | None] = asyncio.Queue()
        future = await self._unless_gone(request, self._submitted(upload, passes), until, 1)
        future.add_done_callback(lambda _: passes.put_nowait(None))

        def over() -> None:
            if future.cancel():
                self._pairs.labels("left").inc()

        return Streamed(self._events(future, passes, until), over, "text/event-stream")

    async def _events(
        self, future: _Future, passes: asyncio.Queue[PassEnded | None], until: float
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        yield event("queued", {"ahead": max(0, self._batcher.held + self._batcher.running - 1)})
        while (rest := until - clock()) > 0:
            try:
                ended = await asyncio.wait_for(passes.get(), min(rest, _KEEP_ALIVE))
            except TimeoutError:
                yield b": still at work\n\n"
                continue
            if ended is None:
                result = await _scored(future)
                break
            yield event("pass", {"pass": ended.name, **ended.found})
        else:
            future.cancel()
            result = late(self.timeout)
        self._count(result)
        yield event("error", result.to_dict()) if isinstance(result, Refusal) else event("result", result.to_dict())

    async def _until(self) -> float:
        """When the answer has to be there, on the loop's clock. Raises Refusal (429, 503) where it would not be."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT):
                await self._batcher.warm.wait()
        if not self._batcher.warm.is_set():
            raise warming_up(int(_MOMENT))
        with self._telling_busy(1):  # before any of the body is read, and with it how many pairs there are
            self._batcher.check()
        return began + self.timeout

    async def _unless_gone(
        self, request: Request, work: Coroutine[Any, Any, _Result], until: float, pairs: int
    ) -> _Result:
        """Do the work on some pairs until its time is over, or until its client leaves: what it holds is free then."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(request))
        rest = max(0, until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait({working, leaving}, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            self._pairs.labels("left" if leaving.done() else "timed_out").inc(pairs)
            raise ClientDisconnect if leaving.done() else late(self.timeout)
        finally:
            working.cancel()
            leaving.cancel()

    async def _results(self, request: Request, uploads: Sequence[Upload], until: float) -> list[_Scored]:
        results = await self._unless_gone(request, self._all(uploads), until, len(uploads))
        for result in results:
            self._count(result)
        return results

    async def _all(self, uploads: Sequence[Upload]) -> list[_Scored]:
        with self._telling_busy(len(uploads)), self._batcher.hold(len(uploads)) as places:
            async with asyncio.TaskGroup() as group:  # ends, and gives its places back, when all have ended
                tasks = [group.create_task(self._settled(upload, places)) for upload in uploads]
            return [task.result() for task in tasks]

    async def _settled(self, upload: Upload, places: Places) -> _Scored:
        try:
            return await _scored(places.submit(await self._decoded(upload)))
        except Refusal as refusal:
            return refusal

    async def _submitted(self, upload: Upload, passes: asyncio.Queue[Any]) -> _Future:
        with self._telling_busy(1), self._batcher.hold() as places:
            try:
                return places.submit(await self._decoded(upload), passes)
            except Refusal as refusal:
                self._count(refusal)
                raise

    @contextmanager
    def _telling_busy(self, pairs: int) -> Iterator[None]:
        try:
            yield
        except Busy as error:
            self._pairs.labels("refused").inc(pairs)
            raise busy(error.retry_after) from None

    async def _decoded(self, upload: Upload) -> Pair:
        upload.check(self._settings.max_prompt)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._decoders.threads, upload.pair, self._decoders)

    def _count(self, result: _Scored) -> None:
        """Count a pair by its answer."""
        outcome = _OUTCOMES[result.code] if isinstance(result, Refusal) else "scored"
        self._pairs.labels(outcome).inc()


class Streamed(StreamingResponse):
    """Calls `over` however it ends, also where its reader has gone before the first event, which runs no generator."""

    def __init__(self, events: AsyncIterator[bytes], over: Callable[[], None], media_type: str) -> None:
        super().__init__(events, media_type=media_type)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


async def _scored(future: _Future) -> _Scored:
    """What is answered about a pair."""
    try:
        result = await future
    except StudentBroke as error:
        return Refusal(500, "internal", str(error))
    return unprocessable(result.reason) if isinstance(result, Failure) else result


async def gone(request: Request) -> None:
    """Return when the client has gone; its request was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(name: str, data: _Row) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
