"""Send requests to one OpenAI-compatible server, and keep what is known about it: its dialect, answers and refusals.

Errors of the `openai` package and of HTTP become the few kinds that `dyneval.llm.openai_server` acts on: this server
cannot be reached, it refuses the request, or it stays away for good. Whatever is passed on to logs and files is without
the key: servers repeat keys that they refuse.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
from aiohttp import ClientConnectorCertificateError, ClientConnectorError
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient, OpenAIError

from dyneval.errors import SettingError
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest, Declined, EngineStopped, Unreachable
from dyneval.llm.dialect import Dialect
from dyneval.llm.openai_wire import JsonBody, shortened, to_reply, words_of

logger = logging.getLogger(__name__)

_PATH = "/chat/completions"
# Seconds until a request is sent again after an error with status 200. The openai package waits as long after errors
# with other statuses, and does not look into bodies with this one.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
# Redirects that are followed for one request; more are a circle.
_MOST_MOVES = 3
# A key of fewer characters, such as EMPTY for a local server, is no secret, and could stand in any reply.
SECRET = 8
_REMEDIES = {
    401: "set --api-key-env to the name of the environment variable that holds the server's key",
    403: "set --api-key-env to the name of the environment variable that holds a key with access to this model",
    404: "set --model (of a student: --served-model) to a name that the server has (GET <base-url>/models lists them), "
    "or correct --base-url",
    405: "correct --base-url; it mostly ends in /v1",
}
_OTHER_REMEDY = (
    "start the server with what it lacks, or, for a teacher, change a field of the request with --server-option "
    "KEY=VALUE (KEY=null leaves it out)"
)


class _NeverConnected(OpenAIError):
    """A server that was never there. The openai package does not repeat a request after an error of its own kind."""


class _HttpClient(DefaultAioHttpClient):
    """An HTTP client that tells a server that was never there, for which nobody should wait, from a lost one."""

    # Based on the openai package's client that takes half the CPU of its other one with a hundred requests in flight.
    was_there = False
    """True once there was a connection, even one that was lost."""
    refused = False
    """True once a connection could not be made before any was."""
    is_untrusted = False
    """True once the certificate of the server was not accepted."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request. Raises _NeverConnected."""
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError as error:
            # A refused port, an unknown host or a bad certificate: httpx2 reports all of them as a timeout.
            no_connection = isinstance(error.__cause__, ClientConnectorError)
            self.is_untrusted |= isinstance(error.__cause__, ClientConnectorCertificateError)
            if no_connection and not self.was_there:
                self.refused = True
                raise _NeverConnected(str(error)) from error
            self.was_there |= not no_connection
            raise
        self.was_there = True
        return response


class Server:
    """A server at one base URL."""

    def __init__(self, url: str | None, model: str, key: str | None, timeout: float, own: dict[str, Any]) -> None:
        """Connect to nothing yet.

        Args:
            url: None means the hosted OpenAI API.
            model: name of the model on the server.
            key: None where the server needs none.
            timeout: seconds for one request.
            own: fields of requests that the user sets; a value of None leaves the field out.

        Raises:
            SettingError: `url` is not the address of a server, or holds a user name.
        """
        self.label = _label(url)
        self.model = model
        self.has_url = url is not None
        self.http = _HttpClient()
        self.client = AsyncOpenAI(
            api_key=key or "none",  # the package insists on one; local servers ignore it
            base_url=url,
            timeout=timeout,
            max_retries=0,
            http_client=self.http,
        )
        self.dialect = Dialect()
        self.notes: list[str] = []
        """What was found out about it, for the summary of a run."""
        self.in_flight = 0
        self.rests_until = 0.0
        """Value of `time.monotonic` until which other servers are asked first."""
        self.judging = asyncio.Lock()
        """One failure is examined at a time; the result then serves those that wait."""
        self._key = key
        self._own = own
        self._answered: dict[tuple[str, bool], float] = {}
        self._refused: dict[tuple[str, bool], int] = {}

    @property
    def was_never_there(self) -> bool:
        """True where no connection could ever be made."""
        return self.http.refused and not self.http.was_there

    # -----------------------------------------------------------------------------------------------------------------
    # What is known about the server

    def answered(self, request: ChatRequest, sent: float, *, is_probe: bool = False) -> None:
        """Note that a request of this kind, sent at this value of `time.monotonic`, was answered."""
        self._answered[_kind(request)] = sent
        if not is_probe:
            self._refused.pop(_kind(request), None)

    def has_answered(self, request: ChatRequest, since: float) -> bool:
        """True where a request of the same kind was sent after `since`, a value of `time.monotonic`, and answered."""
        return self._answered.get(_kind(request), 0.0) > since

    def refused(self, request: ChatRequest) -> int:
        """Count a refused request; returns how many of its kind were refused in a row."""
        kind = _kind(request)
        self._refused[kind] = self._refused.get(kind, 0) + 1
        return self._refused[kind]

    def note(self, words: str) -> None:
        """Log what was found out about the server, once, and keep it for the summary."""
        line = f"{self.label}: {words}"
        if line not in self.notes:
            self.notes.append(line)
            logger.warning("%s", line)

    # -----------------------------------------------------------------------------------------------------------------
    # Sending

    async def send(
        self, dialect: Dialect, request: ChatRequest, messages: list[dict[str, Any]], max_retries: int
    ) -> ChatReply:
        """Send a request, up to `max_retries` times more where the server is busy, broken or lost.

        Raises:
            Declined: the server refuses the request.
            Unreachable: it gave no answer.
            ChatError: its answer is not a chat completion.
            EngineStopped: it redirects requests to another host.
        """
        body = dialect.body(self.model, request, messages) | self._own
        # Content is sent as it is; `chat.completions.create` would walk through every megabyte of image first.
        content = JsonBody({name: value for name, value in body.items() if value is not None})
        for attempt in range(max_retries + 1):
            text = await self._post(content, max_retries)
            try:
                return to_reply(self._hide(text), self.label)
            except Unreachable:
                if attempt == max_retries:
                    raise
                await asyncio.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    async def is_there(self) -> bool:
        """True where the server answers a request for its models with anything but an error of its own."""
        try:
            await self.client.get("/models", cast_to=str, options={"max_retries": 0})
        except APIStatusError as error:
            return error.status_code < 500
        except OpenAIError:
            return False
        return True

    async def _post(self, content: JsonBody, max_retries: int, moves: int = 0) -> str:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        # Redirects are followed in `_move`: the HTTP client would turn a redirected POST into a GET.
        options: Any = {"max_retries": max_retries, "headers": headers, "follow_redirects": False}
        try:
            return await self.client.post(_PATH, cast_to=str, content=content, options=options)
        except _NeverConnected as error:
            what = "its certificate is not trusted" if self.http.is_untrusted else "nobody answers there"
            raise Unreachable(f"{self.label}: {what} ({self._clean(error)})") from None
        except APIConnectionError as error:  # lost connections and timeouts
            raise Unreachable(f"{self.label}: no answer ({self._clean(error)})") from None
        except APIStatusError as error:
            status, message = error.status_code, f"{self.label}: HTTP {error.status_code}: {self._clean(error)}"
            if error.response.is_redirect:
                self._move(str(error.request.url), error.response, moves)
                return await self._post(content, max_retries, moves + 1)
            # Timeouts, conflicts and load pass; 501 says that the server will never do it.
            if status in (408, 409, 429) or (status >= 500 and status != 501):
                raise Unreachable(message, status) from None
            raise Declined(message, status) from None
        except APIError as error:
            raise ChatError(f"{self.label}: {self._clean(error)}") from None

    def _move(self, asked: str, response: httpx2.Response, moves: int) -> None:
        """Use the address that the server redirects to, on the same host; raises EngineStopped for any other."""
        # To another host, or from https to http, the key would go to somebody whom the user has not named.
        target = urljoin(asked, response.headers.get("location", ""))
        old, new = urlsplit(asked), urlsplit(target)
        is_safe = old.hostname == new.hostname and (new.scheme == old.scheme or new.scheme == "https")
        base = target.removesuffix(_PATH)
        if not is_safe or base == target or moves == _MOST_MOVES:
            raise EngineStopped(
                f"{self.label}: HTTP {response.status_code}: moved to {target}; use that as --base-url if you trust it"
            )
        self.note(f"moved to {base} (HTTP {response.status_code}), going on there; use that as --base-url")
        self.client.base_url = base

    # -----------------------------------------------------------------------------------------------------------------
    # Messages

    def remedy(self, status: int | None = None) -> str:
        """What the user can do where the server answers nothing, or every request with an error of this status."""
        if status is not None:
            return _REMEDIES.get(status, _OTHER_REMEDY)
        if self.http.is_untrusted:
            return (
                "set the environment variable SSL_CERT_FILE to a file with the certificates that you trust, this "
                "server's or its authority's among them"
            )
        if not self.has_url:
            return "look whether this machine reaches the internet, or name a server of yours (--base-url)"
        return f"start a server there, such as `vllm serve {self.model}`, or correct the address (--base-url)"

    def _clean(self, error: Exception) -> str:
        """The message of an error, shortened and without the key."""
        message = ""
        if isinstance(error, APIConnectionError):  # its own message does not name the cause
            message = str(error.__cause__ or "")
        elif isinstance(error, APIStatusError):
            message = words_of(error.response.text)
        return shortened(self._hide(message or str(error)))

    def _hide(self, text: str) -> str:
        """The text of a server without the key, which servers repeat when they refuse it."""
        return text.replace(self._key, "***") if self._key and len(self._key) >= SECRET else text


def _kind(request: ChatRequest) -> tuple[str, bool]:
    # A server may answer texts and refuse images, or refuse the schema of one task.
    return request.task, any(message.images or message.data_urls for message in request.messages)


def _label(url: str | None) -> str:
    """The host and port of an address, for logs. Raises SettingError where it is not the address of a server."""
    if url is None:
        return "api.openai.com"
    parts = urlsplit(url)
    shown = url.rsplit("@", 1)[-1]
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingError(f"base URL {shown!r}: expected something like http://localhost:8000/v1")
    if "@" in parts.netloc:
        raise SettingError(f"base URL ...@{shown}: a user name or password cannot be sent; name a key (--api-key-env)")
    return parts.netloc
