"""What stands before every route: who may ask, how much and how slowly, security headers, and the count of requests."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dyneval.serve.refusal import Refusal, busy, too_large
from dyneval.serve.settings import ServerSettings
from dyneval.serve.telemetry import Telemetry

_HEADERS = {
    # A page loads only scripts and styles of this server, and shows pictures that it made itself.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SILENCE = 10.0
"""Seconds that a client may be silent in the middle of its request."""
_READ_AGAIN = 5


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, telemetry: Telemetry, patient: Collection[str] = ()
    ) -> None:
        """`patient`: paths of trainers; where too many bytes are held their bodies wait in the network, unread."""
        self._app = app
        self._max_body = settings.max_body
        self._most_held = settings.most_held
        self._held = 0
        self._patient = patient
        self._reading: dict[object, None] = {}
        """Requests of trainers whose bodies are arriving, the oldest first."""
        self._changed = asyncio.Event()
        self._allowed = {name.lower() for name in settings.allow_hosts}
        # A page that came by another name (DNS rebinding) has no token, so with one any name will do.
        self._names = self._allowed | ({"*"} if settings.token else {"localhost", socket.gethostname().lower()})
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
        headers = Headers(scope=scope)
        try:
            self._check_names(headers)
            announced = headers.get("content-length", "")
            if announced.isdigit() and int(announced) > self._max_body:
                raise too_large("the request", self._max_body)
        except Refusal as refusal:
            # The body is not read, so the connection cannot serve another request.
            answer = JSONResponse(refusal.to_dict(), refusal.status, refusal.headers | {"Connection": "close"})
            await answer(scope, receive, send)
            return
        seen, more = 0, True
        this = object()
        if scope["path"] in self._patient:
            self._reading[this] = None

        async def limited() -> Message:
            nonlocal seen, more
            while more and self._must_wait(this, seen):
                self._changed.clear()
                await self._changed.wait()
            try:
                async with asyncio.timeout(_SILENCE if more else None):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, "timeout", f"nothing arrived for {_SILENCE:g} s", {"Connection": "close"}) from None
            more = message.get("more_body", False)
            size = len(message.get("body", b""))
            seen += size
            self._held += size
            if not more:
                self._is_read(this)
            if seen > self._max_body:
                raise too_large("the request", self._max_body)
            if self._held > self._most_held and scope["path"] not in self._patient:
                raise busy(_READ_AGAIN)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._held -= seen
            self._is_read(this)

    def _must_wait(self, request: object, seen: int) -> bool:
        """True of a trainer's request while much is held; of `seen` of its bytes it was read.

        The last half of the room is for those that have begun: side by side, so that slow ones are found out together.
        Without any room the oldest is read to its end, so that all go on.
        """
        if request not in self._reading or self._held <= (self._most_held if seen else self._most_held // 2):
            return False
        return next(iter(self._reading)) is not request

    def _is_read(self, request: object) -> None:
        self._reading.pop(request, None)
        self._changed.set()

    def _check_names(self, headers: Headers) -> None:
        """Refuse pages of other sites, which make a browser send requests here: by name (DNS rebinding) or outright."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host and not _is_known(_name(f"//{host}"), self._names):
            raise Refusal(
                403, "host", "this server does not go by that name; start it with --allow-host NAME if it should"
            )
        if origin is None or (host and _netloc(origin) == host.lower()):
            return
        if _name(origin) not in self._allowed and "*" not in self._allowed:
            raise Refusal(403, "origin", "pages of other sites may not ask here; see --allow-host")


def _netloc(address: str) -> str:
    return address.lower().partition("://")[2]


def _name(address: str) -> str | None:
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return None if "@" in parts.netloc else parts.hostname


def _is_known(name: str | None, names: Collection[str]) -> bool:
    """True for a known name and for addresses: a name of someone else's is what DNS rebinding needs."""
    if name is None or name in names or "*" in names:
        return name is not None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
