"""Answers that several routes have in common: one that never changes, and one in pieces that its reader may leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send


class FixedAnswer(NamedTuple):
    """An answer that is always the same, such as a page; `send` is its endpoint."""

    content: bytes
    media_type: str = "application/json"

    async def send(self) -> Response:
        """Answer a request."""
        return Response(self.content, media_type=self.media_type)


class StreamedAnswer(StreamingResponse):
    """An answer in pieces, which calls `over` however it ends.

    A generator's own `finally` is not enough: it does not run where the reader has gone before the first piece, and
    what the generator would have given back is then lost.
    """

    def __init__(self, pieces: AsyncIterator[bytes], over: Callable[[], object], media_type: str) -> None:
        """Describe the answer.

        Args:
            pieces: what is sent, as it comes.
            over: called once, when the last piece was sent or the reader has gone.
            media_type: of the answer.
        """
        super().__init__(pieces, media_type=media_type)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def event(name: str, data: dict[str, Any]) -> bytes:
    """Return one server-sent event, its data as JSON on one line."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
