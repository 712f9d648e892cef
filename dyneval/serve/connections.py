"""Connections of a server: how long one may take to send its request and to read the answer, and how many there are.

uvicorn waits for ever and takes any number. Without these bounds a thousand connections that never send a whole request
take all file descriptors, and everyone else is locked out. This module overrides methods of uvicorn's protocol and of
its server, so look here first when another version of uvicorn breaks something.
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
"""Connections at a time, where the system allows so many open files."""
_RESERVED = 256
"""File descriptors left to everything else: files, decoders, and what asyncio accepts at once."""
_ROUND = 128
"""Connections that asyncio accepts in one round of its loop; each takes a descriptor before we can refuse it."""
_WAITING = 1024
"""Connections that the system holds until they are accepted."""
SEND_SECONDS = 30.0
"""A reader takes what is held for it, about 64 KiB, within so many seconds."""
# Each part costs about 15 us of the event loop. A TCP segment has 1,448 bytes, and 536 on networks with small packets,
# so an honest upload stays far above the average that is asked for.
_FREE_CHUNKS, _BYTES_A_CHUNK = 250, 256
"""A body may arrive in so many parts of any size, and in more where they have so many bytes on average."""
# Without this filter every client that does something wrong writes a line to the log, and so fills the disk.
_NOISE = (
    "Invalid HTTP request received.",
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
    "ASGI callable returned without completing response.",  # a reader that was too slow
)
"""Beginnings of those lines of uvicorn's log that clients cause."""
_FULL = json.dumps({"code": "busy", "message": "all connections are taken; try again in 5 s"}).encode()
# Written as bytes: there is no request yet that an application could answer.
_FULL_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Type: application/json\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(_FULL)
    + _FULL
)


class _Requests(h11.Connection):
    """Parses requests; gives up on a body in parts of a few bytes, which would keep the event loop busy for minutes."""

    _chunks = _bytes = 0
    """Parts of the present body, and bytes in them."""

    def next_event(self) -> Any:
        """Return the next event of h11. Raises RemoteProtocolError, which uvicorn answers with 400."""
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
    """A whole request is being answered; it is never ended for the sake of a new one."""


class Connection(H11Protocol):
    """A connection that must send its request and take its answer in time.

    Where there are too many, one that has sent no whole request is ended in favour of a new one.
    """

    def __init__(self, *arguments: Any, opened: dict[Connection, None], most: int, **options: Any) -> None:
        """Begin, before there is a transport.

        Args:
            arguments: of uvicorn.
            opened: the connections of the server, the one with the oldest request first; shared by all of them.
            most: so many may be open.
            options: of uvicorn.
        """
        super().__init__(*arguments, **options)
        self.conn = _Requests(h11.SERVER)
        self._opened, self._most = opened, most
        self._headers_late: asyncio.TimerHandle | None = None
        """Ends the connection when its headers do not come; None where none are waited for."""
        self._reader_late: asyncio.TimerHandle | None = None
        """Ends the connection when its reader takes nothing; None while the reader does."""
        self._begun: RequestResponseCycle | None = None
        """The request that `_opened` was last sorted by."""

    @property
    def is_idle(self) -> bool:
        """True while there is no request, or one whose headers are not all there."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def worth(self) -> Worth:
        """What would be lost with it."""
        if self._reader_late is not None:
            return Worth.SLOW
        if self.is_idle:
            return Worth.NOTHING if self.cycle is None else Worth.LITTLE
        return Worth.UPLOAD if self.cycle.more_body else Worth.WORK

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin. Where there are too many connections, end the oldest with the least to lose, or refuse this one."""
        super().connection_made(transport)
        if len(self._opened) >= self._most:
            # One without a request is looked for first, and found soon: such connections are old, and so in front. Only
            # where there is none are all compared, which under attack would be a thousand for each new one.
            worthless = (one for one in self._opened if one.worth is Worth.NOTHING)
            least = next(worthless, None) or min(self._opened, key=lambda one: one.worth)
            if least.worth is Worth.WORK:
                transport.write(_FULL_ANSWER)
                transport.close()
                return
            least.end()
        self._opened[self] = None
        self._headers_late = self.loop.call_later(HEADER_SECONDS, self._end_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._opened.pop(self, None)
        for timer in (self._headers_late, self._reader_late):
            if timer is not None:
                timer.cancel()
        self._headers_late = self._reader_late = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; from the first one of a request on, its headers have to be there in time."""
        super().data_received(data)
        if self._headers_late is None and self.is_idle:
            self._headers_late = self.loop.call_later(HEADER_SECONDS, self._end_if_idle)
        elif self._headers_late is not None and not self.is_idle:
            self._headers_late.cancel()
            self._headers_late = None
        # The headers of a request are whole: this is the youngest connection again. A dict keeps the order of
        # insertion.
        if self._begun is not self.cycle and self in self._opened:
            self._begun = self.cycle
            del self._opened[self]
            self._opened[self] = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        # h11 knows one answer to a request. uvicorn begins a second one where a body breaks after its answer has begun,
        # or in the packet that brings the request, and that ends in a traceback.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.end()
        if self.cycle is not None:  # the application's answer would come behind this one
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def pause_writing(self) -> None:
        """Wait for the reader, but not for ever."""
        super().pause_writing()
        if self._reader_late is None:
            self._reader_late = self.loop.call_later(SEND_SECONDS, self.end)

    def resume_writing(self) -> None:
        """Go on: the reader has taken what was held."""
        if self._reader_late is not None:
            self._reader_late.cancel()
            self._reader_late = None
        super().resume_writing()

    def end(self) -> None:
        """Close without an answer."""
        self._opened.pop(self, None)
        self.transport.abort()

    def _end_if_idle(self) -> None:
        self._headers_late = None
        if self.is_idle:
            self.end()


def protocol() -> Callable[..., Connection]:
    """Return what makes the connections of one server, as many as the limit of open files (ulimit -n) allows."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if files == resource.RLIM_INFINITY else max(1, min(MOST, files - _RESERVED))
    return partial(Connection, opened={}, most=most)


class BoundServer(uvicorn.Server):
    """Serves on a socket that was bound before; run it with `run([listener])`, until SIGINT, SIGTERM or `is_over`."""

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, is_ready: Callable[[], bool], is_over: Callable[[], bool]
    ) -> None:
        """Get ready.

        Args:
            config: of uvicorn.
            listener: the socket, see `listen_on`.
            is_ready: asked ten times a second; when it first says yes the address is told in the log.
            is_over: asked ten times a second; the server ends when it says yes.
        """
        config.backlog = _ROUND
        super().__init__(config)
        self._listener = listener
        self._is_ready, self._is_over = is_ready, is_over
        self._told = self._told_refusing = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. What clients do wrong, and that there are too many, must not fill the log."""
        logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith(_NOISE))
        asyncio.get_running_loop().set_exception_handler(self.on_loop_error)
        await super().startup(sockets)
        # Once more, longer: uvicorn has one figure for this backlog and for the connections accepted in a round.
        self._listener.listen(_WAITING)

    async def on_tick(self, counter: int) -> bool:
        """Look around, ten times a second; returns whether to end."""
        if not self._told and self._is_ready():
            self._told = True
            self._log_started_message([self._listener])
        return await super().on_tick(counter) or self._is_over()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of the event loop.

        That connections cannot be accepted is told once: asyncio tells it again each time that it tries, thousands of
        times.
        """
        if "socket.accept()" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif not self._told_refusing:
            self._told_refusing = True
            logger.warning("connections cannot be accepted (%s); raise ulimit -n", context.get("exception"))


def listen_on(host: str, port: int) -> socket.socket:
    """Bind a socket to an address; it takes no connections yet.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Raises:
        OSError: there is no such address or port, or it is taken.
    """
    if not 0 <= port < 1 << 16:
        raise OSError("there is no such port")
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, number)
    # A server that is started again may take the port at once, and not after the minute that the system keeps it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
