"""Checks in front of every route: who may ask, how much and how slowly; security headers; the count of requests.

It is ASGI middleware, since all of this has to happen before a route reads a body. Without it a page of any site could
make a visitor's browser use this server, a client that sends one byte a minute would hold its memory for ever, and the
bodies of many clients together could take all memory although each is small enough.
"""

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
    # A page loads only scripts and styles of this server, and shows pictures that it made itself (blob, data). Text of
    # a prompt or a student that were taken for HTML could load nothing and send nothing elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SILENCE = 10.0
"""Seconds that a client may be silent in the middle of its request."""
_READ_AGAIN = 5
"""Seconds of Retry-After where too many bytes are held."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, telemetry: Telemetry, patient: Collection[str] = ()
    ) -> None:
        """Get ready.

        Args:
            app: what is guarded.
            settings: limits, names of the server, whether there is a token.
            telemetry: counts the requests.
            patient: paths of trainers; where too many bytes are held their bodies wait in the network, unread.
        """
        self._app = app
        self._max_body = settings.max_body
        self._most_held = settings.most_held
        self._held = 0
        """Bytes of bodies whose requests are not answered yet."""
        self._patient = patient
        self._reading: dict[object, None] = {}
        """Requests of trainers whose bodies are arriving, the oldest first."""
        self._changed = asyncio.Event()
        self._allowed = {name.lower() for name in settings.allow_hosts}
        # A page that came by another name (DNS rebinding) has no token, so with one any name will do.
        self._names = self._allowed | ({"*"} if settings.token else {"localhost", socket.gethostname().lower()})
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._handle(scope, receive, send_with_headers)
        finally:
            # The path of the route, not of the request: clients must not make series of figures, see `telemetry`.
            path = getattr(scope.get("route"), "path", "other")
            self._telemetry.requests.labels(path, str(status)).inc()
            self._telemetry.request_seconds.labels(path).observe(time.monotonic() - started)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request by its headers, or pass it on with a `receive` that holds its body to the limits."""
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
                # Only while a body arrives: a route that waits for its client to leave calls this again after it.
                async with asyncio.timeout(_SILENCE if more else None):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, "timeout", f"nothing arrived for {_SILENCE:g} s", {"Connection": "close"}) from None
            more = message.get("more_body", False)
            size = len(message.get("body", b""))
            seen += size
            self._held += size
            if not more:
                self._reading.pop(this, None)
                self._changed.set()
            # Counted as it arrives: a body in chunks announces no length, and an announced one may be a lie.
            if seen > self._max_body:
                raise too_large("the request", self._max_body)
            if self._held > self._most_held and scope["path"] not in self._patient:
                raise busy(_READ_AGAIN)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._held -= seen
            self._reading.pop(this, None)
            self._changed.set()

    def _must_wait(self, request: object, seen: int) -> bool:
        """Tell whether a trainer's request, of which `seen` bytes were read, waits because many bytes are held.

        New requests begin while less than half of the limit is held. The other half is for those that have begun: they
        arrive side by side, so that a slow one shows by its silence. Where even that is full the oldest one is read to
        its end, or none could go on.
        """
        if request not in self._reading or self._held <= (self._most_held if seen else self._most_held // 2):
            return False
        return next(iter(self._reading)) is not request

    def _check_names(self, headers: Headers) -> None:
        """Refuse pages of other sites, which make a browser send requests here.

        Such a page comes either by a name of its own that it made point to this machine (DNS rebinding; seen by Host),
        or outright (seen by Origin). Programs send no Origin.

        Raises:
            Refusal: 403.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _host_of(f"//{host}")
        if host and (name is None or self._names.isdisjoint((name, "*"))):
            try:  # an IP address is known, too: rebinding needs a name, and an address cannot be rebound
                ipaddress.ip_address(name or "")
            except ValueError:
                what = "this server does not go by that name; start it with --allow-host NAME if it should"
                raise Refusal(403, "host", what) from None
        if origin is None or (host and origin.lower().partition("://")[2] == host.lower()):
            return
        if _host_of(origin) not in self._allowed and "*" not in self._allowed:
            raise Refusal(403, "origin", "pages of other sites may not ask here; see --allow-host")


def _host_of(address: str) -> str | None:
    """Return the host of an address, in lower case; None where it has none, or hides it behind a user's name."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return None if "@" in parts.netloc else parts.hostname
