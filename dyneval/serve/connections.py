"""Connections of a server: how long one may take to say what it wants and to hear the answer, and how many there are.

Without these bounds a thousand connections that never send a whole request take all file descriptors, and everyone else
is locked out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

logger = logging.getLogger(__name__)

HEADER_SECONDS = 10.0
"""A request's headers arrive within so many seconds after the connection, or after their own first byte."""
MOST = 1000
_RESERVED = 256
"""File descriptors left to everything else: files, decoders, and what asyncio accepts at once."""
_ROUND = 128
_WAITING = 1024
"""Connections that the system holds until they are accepted."""
SEND_SECONDS = 30.0
"""A reader takes what is held for it, about 64 KiB, within so many seconds."""
_FREE_CHUNKS, _BYTES_A_CHUNK = 250, 256
"""A body may arrive in so many parts of any size, and in more where they have so many bytes on average. Each part
costs about 15 us; a TCP segment has 1,448 bytes, on odd ways 536."""
_NOISE = (  # how lines begin
    "Invalid HTTP request received.",
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
    "ASGI callable returned without completing response.",  # a reader that was too slow
)


class _Requests(h11.Connection):
    """Gives up on a body in parts of a few bytes, which would keep the event loop busy for minutes."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER)
        self._chunks = self._bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS + self._bytes // _BYTES_A_CHUNK:
                raise h11.RemoteProtocolError("the body comes in too many parts")
        return event


class Worth(IntEnum):
    """How much would be lost with a connection; where there are too many, the least goes."""

    NOTHING = 0
    """It has sent no whole headers yet."""
    LITTLE = 1
    """It is between two requests."""
    SLOW = 2
    """An answer is there that its reader does not take."""
    UPLOAD = 3
    """A body is arriving."""
    WORK = 4
    """A whole request is being answered; it is never ended to make room."""


class Connection(H11Protocol):
    """A connection that must send its request and take its answer in time, and makes room for others as long as not."""

    def __init__(self, *arguments: Any, opened: dict[Connection, None], most: int, **options: Any) -> None:
        """`opened`: the connections of the server, the one with the oldest request first; `most`: so many may be."""
        super().__init__(*arguments, **options)
        self.conn = _Requests()
        self._opened, self._most = opened, most
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._begun: RequestResponseCycle | None = None

    @property
    def is_idle(self) -> bool:
        """True while there is no request, or one whose headers are not all there."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def worth(self) -> Worth:
        """What would be lost with it."""
        if self._stalled is not None:
            return Worth.SLOW
        if self.is_idle:
            return Worth.NOTHING if self.cycle is None else Worth.LITTLE
        return Worth.UPLOAD if self.cycle.more_body else Worth.WORK

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room by ending the oldest connection with the least to lose; where all are at work, refuse this one."""
        super().connection_made(transport)
        if len(self._opened) >= self._most:
            worthless = (one for one in self._opened if one.worth is Worth.NOTHING)  # found soon: they are not young
            least = next(worthless, None) or min(self._opened, key=lambda one: one.worth)
            if least.worth is Worth.WORK:
                transport.write(_full())
                transport.close()
                return
            least.end()
        self._opened[self] = None
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._opened.pop(self, None)
        self._end_waiting()
        self._end_stalling()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; from the first one of a request on, its headers have to be there in time."""
        super().data_received(data)
        if not self.is_idle:
            self._end_waiting()
        elif self._timer is None:
            self._begin_waiting()
        if self._begun is not self.cycle and self in self._opened:  # headers are whole: it is the youngest again
            self._begun = self.cycle
            del self._opened[self]
            self._opened[self] = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; where an answer to that request has begun, h11 knows no second one: close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.end()
        if self.cycle is not None:  # its answer would come behind this one
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def pause_writing(self) -> None:
        """Wait for the reader, but not for ever."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(SEND_SECONDS, self.end)

    def resume_writing(self) -> None:
        """The reader has taken what was held."""
        self._end_stalling()
        super().resume_writing()

    def end(self) -> None:
        """Close without an answer."""
        self._opened.pop(self, None)
        self.transport.abort()

    def _end_stalling(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _begin_waiting(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._too_late)

    def _end_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self.is_idle:
            self.end()


def _full() -> bytes:
    body = json.dumps({"code": "busy", "message": "all connections are taken; try again in 5 s"}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Type: application/json\r\n"
    )
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def protocol() -> Callable[..., Connection]:
    """What makes the connections of one server."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if files == resource.RLIM_INFINITY else max(1, min(MOST, files - _RESERVED))
    return partial(Connection, opened={}, most=most)


class BoundServer(uvicorn.Server):
    """Serves on a socket that was bound before, and tells of itself when `is_ready`; ends when `is_over`."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, is_ready: Callable[[], bool], is_over: Callable[[], bool]
    ) -> None:
        config.backlog = _ROUND
        super().__init__(config)
        self._listener = listener
        self._is_ready, self._is_over = is_ready, is_over
        self._told = False

    def serve_on_it(self) -> None:
        """Serve until SIGINT, SIGTERM or `is_over`."""
        self.run([self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. What clients do wrong, and that there are too many, must not fill the log."""
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_NOISE))
        asyncio.get_running_loop().set_exception_handler(_told_once())
        await super().startup(sockets)
        self._listener.listen(_WAITING)  # uvicorn has one figure for this and for the connections of a round

    async def on_tick(self, counter: int) -> bool:
        """Look around, ten times a second."""
        if not self._told and self._is_ready():
            self._told = True
            self._log_started_message([self._listener])
        return await super().on_tick(counter) or self._is_over()


def _told_once() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Handler of asyncio's complaints that tells once, not thousands of times, that connections cannot be accepted."""
    told = False

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told
        if "socket.accept()" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif not told:
            told = True
            logger.warning("connections cannot be accepted (%s); raise ulimit -n", context.get("exception"))

    return handle


def listen_on(host: str, port: int) -> socket.socket:
    """A socket bound to an address; it takes no connections yet. Raises OSError."""
    if not 0 <= port < 1 << 16:
        raise OSError("there is no such port")
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, number)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
