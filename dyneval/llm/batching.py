"""Requests that come one by one, answered in batches by something that computes in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

from dyneval.llm.chat import ChatReply, ChatRequest

_GATHER_SECONDS = 0.02
"""How long a batch that is not full waits for more."""


class BatchingEngine(ABC):
    """Base of engines that answer a batch at once: collects requests, hands them on, hands the replies back."""

    name: str
    model: str

    def __init__(self, batch_size: int) -> None:
        """`batch_size`: requests handed on at once, at most."""
        self.batch_size = batch_size
        self._waiting: asyncio.Queue[tuple[ChatRequest, asyncio.Future[ChatReply]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    @abstractmethod
    def answer(self, requests: Sequence[ChatRequest]) -> list[ChatReply | Exception]:
        """Answer a batch, in order; an exception in the list is the answer to its request alone."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request, together with others that wait. Raises what `answer` gave or raised."""
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        future: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, future))
        return await future

    async def close(self) -> None:
        """Stop; requests that wait are called off."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            with contextlib.suppress(TimeoutError):
                while len(batch) < self.batch_size:
                    batch.append(await asyncio.wait_for(self._waiting.get(), _GATHER_SECONDS))
            await self._hand_on([item for item in batch if not item[1].done()])

    async def _hand_on(self, batch: list[tuple[ChatRequest, asyncio.Future[ChatReply]]]) -> None:
        if not batch:
            return
        try:
            replies = await asyncio.to_thread(self.answer, [request for request, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # whatever stops a batch is the answer to each of its requests
            replies = [error] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
