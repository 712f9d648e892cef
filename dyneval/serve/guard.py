"""What stands before every route: the limit on bodies, security headers, and the count of requests."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dyneval.serve.refusal import Refusal
from dyneval.serve.telemetry import Telemetry

_HEADERS = {
    # The page loads nothing but its own two files, and shows pictures that it made itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, max_body: int, telemetry: Telemetry) -> None:
        self._app = app
        self._max_body = max_body
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.monotonic()
        try:
            await self._handle(scope, receive, answer)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._telemetry.requests.labels(path, str(answer.status)).inc()
            self._telemetry.request_seconds.labels(path).observe(time.monotonic() - started)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = _content_length(scope)
        if announced is not None and announced > self._max_body:
            refusal = self._too_large()
            # The rest of the body is not read, so the connection cannot serve another request.
            await JSONResponse(refusal.to_dict(), refusal.status, {"Connection": "close"})(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body:
                raise self._too_large()
            return message

        await self._app(scope, limited, send)

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the request is over {self._max_body} bytes", {"Connection": "close"})


class _Answer:
    """Passes an answer on, with our headers; remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None
