"""The scoring routes, and the way of a pair from its request through the queue to its answer.

Each request has one deadline, from its arrival to its answer. Whatever happens on the way, its places in the queue come
back: the body is late, the image is broken, the student fails, the client leaves. A place that did not come back would
be lost until the server restarts, and 64 such requests would close it for everyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from dyneval.loaded_pairs import Failure, PassEnded
from dyneval.records import ScoreRecord
from dyneval.serve.answers import StreamedAnswer, event
from dyneval.serve.batcher import Batcher, Busy, Places, StudentBroke
from dyneval.serve.bodies import Upload, arrived, read_uploads
from dyneval.serve.decoding import Decoders
from dyneval.serve.refusal import Refusal, busy, late, unprocessable, warming_up
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_Result = TypeVar("_Result")
_Scored = ScoreRecord | Refusal
_Future = asyncio.Future[ScoreRecord | Failure]
_MOMENT = 10.0
"""Seconds that a request waits for the first pair of all; it is answered with 503 when that takes longer."""
_OUTCOMES = {"unprocessable": "failed", "unavailable": "not_decoded", "internal": "broken", "timeout": "timed_out"}
"""What /metrics counts a pair as, by the code of its refusal."""
# A proxy ends a connection on which nothing comes (nginx after 60 s), and a pair may take longer.
_KEEP_ALIVE = 10.0
"""Seconds of silence after which a stream sends a comment."""


class ScoringRoutes:
    """Takes requests, holds places in the queue for them, and answers each in time, or not at all when it has gone.

    Attributes:
        decoders: the processes that decode images; whoever ends the server closes them.
    """

    def __init__(self, batcher: Batcher, settings: ServerSettings, telemetry: Telemetry, model: dict[str, Any]) -> None:
        """Get ready.

        Args:
            batcher: scores the pairs.
            settings: limits.
            telemetry: counts pairs by what became of them.
            model: what /v1/model tells about the student.
        """
        self._batcher = batcher
        self._settings = settings
        self._pairs = telemetry.pairs
        self._model = model
        self.decoders = Decoders(settings.max_pixels)

    @property
    def timeout(self) -> float:
        """Seconds from a request's arrival to its answer."""
        return self._settings.seconds(self._batcher.first_pair)

    def router(self) -> APIRouter:
        """Return the routes below /v1; `dyneval.serve.openapi` describes their bodies and answers."""
        router = APIRouter(prefix="/v1", tags=["scoring"])
        scoring: dict[str, Any] = {"methods": ["POST"]}
        router.add_api_route("/score", self._one, summary="Score one image", operation_id="score", **scoring)
        router.add_api_route(
            "/score/stream",
            self._stream,
            summary="Score one image and watch its passes",
            operation_id="stream",
            **scoring,
        )
        router.add_api_route(
            "/score/batch", self._many, summary="Score several images", operation_id="batch", **scoring
        )
        router.add_api_route("/model", self._about, summary="The student and its settings", operation_id="model")
        return router

    async def in_turn(self, uploads: Sequence[Upload]) -> list[_Scored]:
        """Score the pairs of a trainer, each of which waits for its place instead of being refused.

        One waits at a time: requests get places in turn however many pairs they bring, and a thousand pairs that wait
        are no thousand tasks. Cancelling takes all of them out of the queue.

        Args:
            uploads: the pairs; their images are decoded when they have their places.

        Returns:
            For each pair, in order, its record or why there is none.
        """
        tasks: list[asyncio.Task[_Scored]] = []
        try:
            await self._batcher.warm.wait()
            async with asyncio.TaskGroup() as group:
                for upload in uploads:
                    place = await self._batcher.place_in_turn()
                    tasks.append(group.create_task(self._settled(upload, place)))
                    # Not in the task: one that is cancelled before it begins runs no `finally`.
                    tasks[-1].add_done_callback(lambda _, place=place: place.give_back())  # type: ignore[misc]
        except asyncio.CancelledError:
            self._pairs.labels("left").inc(len(uploads))
            raise
        results = [task.result() for task in tasks]
        for result in results:
            self._count(result)
        return results

    async def _one(self, request: Request) -> Response:
        until = await self._until()
        (upload,) = await arrived(read_uploads(request), until, self.timeout)
        (result,) = await self._unless_gone(request, self._all([upload]), until, 1)
        if isinstance(result, Refusal):
            raise result
        return JSONResponse(result.to_dict())

    async def _many(self, request: Request) -> Response:
        until = await self._until()
        uploads = await arrived(read_uploads(request, self._settings.max_pairs), until, self.timeout)
        results = await self._unless_gone(request, self._all(uploads), until, len(uploads))
        rows = [
            {"pair_id": upload.pair_id, "error": result.to_dict()} if isinstance(result, Refusal) else result.to_dict()
            for upload, result in zip(uploads, results, strict=True)
        ]
        return JSONResponse({"results": rows})

    async def _stream(self, request: Request) -> Response:
        """Answer with server-sent events: `queued`, a `pass` each, then `result` or `error`."""
        until = await self._until()
        (upload,) = await arrived(read_uploads(request), until, self.timeout)
        passes: asyncio.Queue[PassEnded | None] = asyncio.Queue()
        future = await self._unless_gone(request, self._submitted(upload, passes), until, 1)
        future.add_done_callback(lambda _: passes.put_nowait(None))

        def over() -> None:
            if future.cancel():
                self._pairs.labels("left").inc()

        return StreamedAnswer(self._events(future, passes, until), over, "text/event-stream")

    async def _about(self) -> Response:
        # The page tells from `seconds` how long a pair is likely to take. Before the first pair nobody knows.
        took = {"seconds": round(self._batcher.first_pair, 2)} if self._batcher.first_pair else {}
        return JSONResponse(self._model | took)

    async def _events(
        self, future: _Future, passes: asyncio.Queue[PassEnded | None], until: float
    ) -> AsyncIterator[bytes]:
        """Yield the events of a stream; the None in `passes` says that the result is there."""
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
        """Return when the answer has to be there, on the loop's clock. Raises Refusal (429, 503): it would not be."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT):
                await self._batcher.warm.wait()
        if not self._batcher.warm.is_set():
            raise warming_up(int(_MOMENT))
        # Before any of the body is read: megabytes that end in a 429 would cost the network and the memory of others.
        # How many pairs the body has is not known yet, so it counts as one.
        with self._telling_busy(1):
            self._batcher.check()
        return began + self.timeout

    async def _unless_gone(
        self, request: Request, work: Coroutine[Any, Any, _Result], until: float, pairs: int
    ) -> _Result:
        """Do the work on some pairs until its time is over, or until its client leaves: what it holds is free then."""
        working = asyncio.ensure_future(work)
        try:
            if await is_over(request, working, max(0, until - asyncio.get_running_loop().time())):
                return working.result()
        except ClientDisconnect:
            self._pairs.labels("left").inc(pairs)
            raise
        finally:
            working.cancel()
        self._pairs.labels("timed_out").inc(pairs)
        raise late(self.timeout)

    async def _all(self, uploads: Sequence[Upload]) -> list[_Scored]:
        """Score the pairs of one request, which all have their places at once or are refused together."""
        with self._telling_busy(len(uploads)), self._batcher.hold(len(uploads)) as places:
            # A group ends when all of its tasks have ended. Places given back before that would be used twice.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._settled(upload, places)) for upload in uploads]
            results = [task.result() for task in tasks]
        for result in results:
            self._count(result)
        return results

    async def _submitted(self, upload: Upload, passes: asyncio.Queue[Any]) -> _Future:
        """Queue the pair of a stream."""
        with self._telling_busy(1), self._batcher.hold() as places:
            try:
                return await self._queued(upload, places, passes)
            except Refusal as refusal:
                self._count(refusal)
                raise

    async def _settled(self, upload: Upload, places: Places) -> _Scored:
        """Score a pair on a place that is held. Its refusal is returned and not raised, so that other pairs go on."""
        try:
            return await _scored(await self._queued(upload, places))
        except Refusal as refusal:
            return refusal

    async def _queued(self, upload: Upload, places: Places, passes: asyncio.Queue[Any] | None = None) -> _Future:
        """Decode a pair and queue it. Raises Refusal."""
        upload.check(self._settings.max_prompt)
        loop = asyncio.get_running_loop()
        pair = await loop.run_in_executor(self.decoders.threads, upload.pair, self.decoders)
        return places.submit(pair, passes)

    @contextmanager
    def _telling_busy(self, pairs: int) -> Iterator[None]:
        """Answer 429 where the queue is full, and count the pairs that were refused so."""
        try:
            yield
        except Busy as error:
            self._pairs.labels("refused").inc(pairs)
            raise busy(error.retry_after) from None

    def _count(self, result: _Scored) -> None:
        """Count a pair by its answer."""
        outcome = _OUTCOMES[result.code] if isinstance(result, Refusal) else "scored"
        self._pairs.labels(outcome).inc()


async def _scored(future: _Future) -> _Scored:
    """Wait for the result of a pair; returns its record, or what is answered in its place."""
    try:
        result = await future
    except StudentBroke as error:
        return Refusal(500, "internal", str(error))
    return unprocessable(result.reason) if isinstance(result, Failure) else result


async def is_over(request: Request, work: asyncio.Future[Any], seconds: float) -> bool:
    """Wait for some work on a request whose body was read.

    Args:
        request: whose client may leave.
        work: what is waited for; cancelled where the client leaves or the caller is cancelled.
        seconds: how long to wait at most.

    Returns:
        True when the work is done, False when the time is over; the work then goes on.

    Raises:
        ClientDisconnect: the client has gone.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((work, leaving), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not work.done():
            raise ClientDisconnect
        return work.done()
    except BaseException:
        work.cancel()
        raise
    finally:
        leaving.cancel()
