"""The way of a pair from its request through the queue to its answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from dyneval.loaded_pairs import Failure, Pair, PassEnded
from dyneval.records import ScoreRecord
from dyneval.serve.batcher import Batcher, Busy, JudgeError, Places
from dyneval.serve.bodies import Upload, read_batch, read_one
from dyneval.serve.decoding import Decoders
from dyneval.serve.refusal import Refusal, busy, unprocessable, warming_up
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_Result = TypeVar("_Result")
_Row = dict[str, Any]
_Future = asyncio.Future[ScoreRecord | Failure]
_MOMENT = 10.0
"""Seconds that a request waits for the first pair of all; it is answered with 503 when that takes longer."""
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
        upload = await self._read(read_one(request), until)
        return await self._unless_gone(request, self._scored(upload), until)

    async def many(self, request: Request) -> list[_Row]:
        """Score the pairs of a request; returns for each its record, or its pair_id and an error. Raises Refusal."""
        until = await self._until()
        uploads = await self._read(read_batch(request), until)
        if len(uploads) > self._settings.max_pairs:
            raise unprocessable(f"pairs: {len(uploads)} are too many, at most {self._settings.max_pairs}")
        return await self._unless_gone(request, self._all(uploads), until)

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """Score the pair of a request; returns server-sent events: `queued`, a `pass` each, `result` or `error`.

        Raises Refusal before the stream begins.
        """
        until = await self._until()
        upload = await self._read(read_one(request), until)
        passes: asyncio.Queue[PassEnded | None] = asyncio.Queue()
        future = await self._unless_gone(request, self._submitted(upload, passes), until)
        future.add_done_callback(lambda _: passes.put_nowait(None))
        return self._events(future, passes, until)

    async def _events(
        self, future: _Future, passes: asyncio.Queue[PassEnded | None], until: float
    ) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        yield event("queued", {"ahead": max(0, self._batcher.held + self._batcher.running - 1)})
        try:
            while (rest := until - clock()) > 0:
                try:
                    ended = await asyncio.wait_for(passes.get(), min(rest, _KEEP_ALIVE))
                except TimeoutError:
                    yield b": still at work\n\n"
                    continue
                if ended is None:
                    break
                yield event("pass", {"pass": ended.name, **ended.found})
            async with asyncio.timeout_at(until):
                row = self._row(await future)
            yield event("result", row)
        except TimeoutError:
            yield event("error", self._late().to_dict())
        except JudgeError as error:
            yield event("error", self._broken(error).to_dict())
        except Refusal as refusal:
            yield event("error", refusal.to_dict())
        finally:
            future.cancel()  # when the reader has gone; does nothing to one that is done

    async def _until(self) -> float:
        """When the answer has to be there, on the loop's clock. Raises Refusal (429, 503) where it would not be."""
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT):
                await self._batcher.warm.wait()
        if not self._batcher.warm.is_set():
            raise warming_up(int(_MOMENT))
        with self._telling_busy():  # before any of the body is read
            self._batcher.check()
        return arrived + self.timeout

    async def _read(self, reading: Coroutine[Any, Any, _Result], until: float) -> _Result:
        try:
            async with asyncio.timeout_at(until):
                return await reading
        except TimeoutError:
            raise Refusal(408, "timeout", f"the request did not arrive within {self.timeout:g} s") from None

    async def _unless_gone(self, request: Request, work: Coroutine[Any, Any, _Result], until: float) -> _Result:
        """Do the work until its time is over, or until its client leaves: what it holds is free then."""
        working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
        try:
            async with asyncio.timeout_at(until):
                await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                self._pairs.labels("left").inc()
                raise ClientDisconnect
            return working.result()
        except TimeoutError:
            raise self._late() from None
        except JudgeError as error:
            raise self._broken(error) from None
        finally:
            working.cancel()
            leaving.cancel()

    async def _scored(self, upload: Upload) -> _Row:
        return self._row(await (await self._submitted(upload, None)))

    async def _submitted(self, upload: Upload, passes: asyncio.Queue[Any] | None) -> _Future:
        with self._telling_busy(), self._batcher.hold() as places:
            return places.submit(await self._decoded(upload), passes)

    async def _all(self, uploads: Sequence[Upload]) -> list[_Row]:
        with self._telling_busy(), self._batcher.hold(len(uploads)) as places:
            return list(await asyncio.gather(*(self._settled(upload, places) for upload in uploads)))

    async def _settled(self, upload: Upload, places: Places) -> _Row:
        try:
            return self._row(await places.submit(await self._decoded(upload)))
        except Refusal as refusal:
            error = refusal
        except JudgeError as broken:
            error = self._broken(broken)
        return {"pair_id": upload.pair_id, "error": error.to_dict()}

    @contextmanager
    def _telling_busy(self) -> Iterator[None]:
        try:
            yield
        except Busy as error:
            self._pairs.labels("refused").inc()
            raise busy(error.retry_after) from None

    async def _decoded(self, upload: Upload) -> Pair:
        loop = asyncio.get_running_loop()
        try:
            upload.check(self._settings.max_prompt)
            return await loop.run_in_executor(self._decoders.threads, upload.pair, self._decoders)
        except Refusal:
            self._pairs.labels("failed").inc()
            raise

    def _row(self, result: ScoreRecord | Failure) -> _Row:
        if isinstance(result, Failure):
            self._pairs.labels("failed").inc()
            raise unprocessable(result.reason)
        self._pairs.labels("scored").inc()
        row: _Row = result.to_dict()
        return row

    def _late(self) -> Refusal:
        self._pairs.labels("timed_out").inc()
        return Refusal(504, "timeout", f"no result within {self.timeout:g} s")

    def _broken(self, error: JudgeError) -> Refusal:
        self._pairs.labels("broken").inc()
        return Refusal(500, "internal", str(error))


async def _gone(request: Request) -> None:
    """Return when the client has gone; its request was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(name: str, data: _Row) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
