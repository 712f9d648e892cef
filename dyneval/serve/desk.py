"""The way of a pair from its request through the queue to its answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from dyneval.loaded_pairs import Failure, Pair
from dyneval.serve.batcher import Batcher, Busy, JudgeError, Places
from dyneval.serve.bodies import Upload, read_batch, read_one
from dyneval.serve.refusal import Refusal, busy, unprocessable
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_Read = TypeVar("_Read")
_Row = dict[str, Any]
_DECODERS = 2
_KEEP_ALIVE = 10.0
"""Seconds of silence after which a stream sends a comment, so that nothing in between takes it for dead."""


class Desk:
    """Takes requests, holds places in the queue for them, and answers."""

    def __init__(self, batcher: Batcher, settings: ServerSettings, telemetry: Telemetry) -> None:
        self._batcher = batcher
        self._settings = settings
        self._pairs = telemetry.pairs
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decoder")

    def close(self) -> None:
        """End the threads."""
        self._decoders.shutdown()

    async def one(self, request: Request) -> _Row:
        """Score the pair of a request; returns its score record. Raises Refusal."""
        with self._places() as places:
            upload = await self._read(read_one(request))
            pair = await self._decoded(upload)
            future = places.submit(pair)
        return await self._outcome(future)

    async def many(self, request: Request) -> list[_Row]:
        """Score the pairs of a request; returns for each its record, or its pair_id and an error. Raises Refusal."""
        with self._places() as places:
            uploads = await self._read(read_batch(request))
            if len(uploads) > self._settings.max_pairs:
                raise unprocessable(f"pairs: {len(uploads)} are too many, at most {self._settings.max_pairs}")
            places.extend(len(uploads) - 1)
            return list(await asyncio.gather(*(self._settled(upload, places) for upload in uploads)))

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """Score the pair of a request; returns server-sent events: `queued`, a `pass` each, `result` or `error`.

        Raises Refusal before the stream begins.
        """
        found: asyncio.Queue[tuple[str, _Row] | None] = asyncio.Queue()
        with self._places() as places:
            pair = await self._decoded(await self._read(read_one(request)))
            future = places.submit(pair, lambda name, what: found.put_nowait(("pass", {"pass": name, **what})))
        future.add_done_callback(lambda _: found.put_nowait(None))
        return self._events(future, found)

    async def _events(
        self, future: asyncio.Future[Any], found: asyncio.Queue[tuple[str, _Row] | None]
    ) -> AsyncIterator[bytes]:
        deadline = time.monotonic() + self._settings.timeout
        yield event("queued", {"ahead": max(0, self._batcher.held + self._batcher.running - 1)})
        try:
            while (rest := deadline - time.monotonic()) > 0:
                try:
                    news = await asyncio.wait_for(found.get(), min(rest, _KEEP_ALIVE))
                except TimeoutError:
                    yield b": still at work\n\n"
                    continue
                if news is None:
                    break
                yield event(*news)
            yield event("result", await self._outcome(future, max(0.0, rest)))
        except Refusal as refusal:
            yield event("error", refusal.to_dict())
        finally:
            future.cancel()  # when the reader has gone; does nothing to one that is done

    @contextmanager
    def _places(self) -> Iterator[Places]:
        """One place in the queue. Raises Refusal (429), before any of the body is read; or when there are no more."""
        try:
            with self._batcher.hold() as places:
                yield places
        except Busy as error:
            self._pairs.labels("refused").inc()
            raise busy(error.retry_after) from None

    async def _read(self, reading: Coroutine[Any, Any, _Read]) -> _Read:
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await reading
        except TimeoutError:
            raise Refusal(408, "timeout", f"the request did not arrive within {self._settings.timeout:g} s") from None

    async def _decoded(self, upload: Upload) -> Pair:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._decoders, upload.pair, self._settings.max_pixels)
        except Refusal:
            self._pairs.labels("failed").inc()
            raise

    async def _settled(self, upload: Upload, places: Places) -> _Row:
        try:
            return await self._outcome(places.submit(await self._decoded(upload)))
        except Refusal as refusal:
            return {"pair_id": upload.pair_id, "error": refusal.to_dict()}

    async def _outcome(self, future: asyncio.Future[Any], timeout: float | None = None) -> _Row:
        try:
            async with asyncio.timeout(self._settings.timeout if timeout is None else timeout):
                result = await future
        except TimeoutError:
            self._pairs.labels("timed_out").inc()
            raise Refusal(504, "timeout", f"no result within {self._settings.timeout:g} s") from None
        except JudgeError as error:
            self._pairs.labels("broken").inc()
            raise Refusal(500, "internal", str(error)) from None
        if isinstance(result, Failure):
            self._pairs.labels("failed").inc()
            raise unprocessable(result.reason)
        self._pairs.labels("scored").inc()
        row: _Row = result.to_dict()
        return row


def event(name: str, data: _Row) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
