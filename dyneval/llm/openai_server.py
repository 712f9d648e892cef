"""Chat through OpenAI-compatible servers (vLLM, SGLang, hosted), several at once, balanced by load."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from aiohttp import ClientConnectorError
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient, OpenAIError

from dyneval.errors import SettingError
from dyneval.llm.chat import (
    SAID_LIMIT,
    ChatError,
    ChatReply,
    ChatRequest,
    EngineStopped,
    Message,
    UnfitServer,
    Unreachable,
)
from dyneval.llm.openai_wire import JsonBody, to_reply, words_of
from dyneval.llm.pictures import DataUrls
from dyneval.llm.registry import ServerOptions

logger = logging.getLogger(__name__)

REST_SECONDS = 15.0
"""A server that could not be reached gets no new requests for this long, as long as another one answers."""
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0
"""Seconds between rounds over all servers while none answers: doubled each time."""
_REFUSED_FORMAT = ("response_format", "json_schema", "json_object", "structured", "guided", "grammar", "schema")
_FORMATS = ("json_schema", "json_object", "text")


class _NobodyThere(OpenAIError):
    """No connection to a server that was never there. The openai package does not repeat errors of its own."""


class _Http(DefaultAioHttpClient):
    """The one of the openai package's two clients that takes half the CPU with a hundred requests in flight.

    It tells a server that was never there, which nobody should wait for, from one that was lost.
    """

    was_there = False
    """True once there was a connection, even one that was lost."""
    refused = False
    """True once no connection could be made before."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request. Raises _NobodyThere."""
        try:
            response = await super().send(request, **options)
        except httpx2.TransportError as error:
            # A refused port, an unknown host, a bad certificate; httpx2 calls it a timeout.
            no_connection = isinstance(error.__cause__, ClientConnectorError)
            if no_connection and not self.was_there:
                self.refused = True
                raise _NobodyThere(str(error)) from error
            self.was_there |= not no_connection
            raise
        self.was_there = True
        return response


@dataclass(eq=False, slots=True)
class _Server:
    """One base URL, its load and what it turned out to support."""

    client: AsyncOpenAI
    http: _Http
    label: str
    in_flight: int = 0
    rests_until: float = 0.0
    format: str = field(default=_FORMATS[0])

    def refuse_format(self, asked: str) -> None:
        """Note that the server does not take response_format `asked`; requests in flight report it only once."""
        if self.format == asked:
            self.format = _FORMATS[_FORMATS.index(asked) + 1]
            logger.warning("%s does not take response_format %s; going on with %s", self.label, asked, self.format)


class OpenAIEngine:
    """Teacher behind one or more OpenAI-compatible servers.

    Rate limits (429), server errors and lost connections are retried by the `openai` package, `max_retries` times with
    back-off, honouring Retry-After. With several servers a request goes to the least loaded one and moves on to
    another when a server cannot be reached. When none can, `patience` says how long to go on.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        options: ServerOptions,
    ) -> None:
        """Connect to nothing yet. `model` is its name as the servers know it.

        Raises:
            SettingError: the environment variable of the key is not set, or an address is none.
        """
        self.model = model
        self.options = options
        self._key = _read_key(options.api_key_env, bool(options.base_urls))
        self._slots = asyncio.Semaphore(options.concurrency)
        # A picture of 1024x1024 takes two megabytes; three requests about it come close together.
        self._images = DataUrls(options.max_pixels, keep=8 + 3 * options.concurrency // 2)
        self._servers = [self._server(url) for url in options.base_urls or (None,)]

    @property
    def labels(self) -> list[str]:
        """The servers' addresses, fit for logs."""
        return [server.label for server in self._servers]

    def _server(self, url: str | None) -> _Server:
        http = _Http()
        client = AsyncOpenAI(
            api_key=self._key or "none",  # the package insists on one; local servers ignore it
            base_url=url,
            timeout=self.options.timeout,
            max_retries=0,
            http_client=http,
        )
        return _Server(client, http, _label(url))

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request.

        Raises:
            ChatError: no server gives a reply.
            EngineStopped: nobody listens at any of the addresses, and nobody did before.
            UnfitServer: a server refuses the schema, and `needs_schema` says that there is no way without.
            ImageError: an image is unusable.
        """
        # Images are made ready before a slot is taken, so that a slot is never idle.
        messages = [await self._render(message) for message in request.messages]
        wait, deadline = FIRST_WAIT, time.monotonic() + self.options.patience
        async with self._slots:
            while True:
                try:
                    return await self._one_round(request, messages)
                except Unreachable as error:
                    if all(server.http.refused and not server.http.was_there for server in self._servers):
                        raise EngineStopped(f"{error}; {self._remedy()}") from None
                    if time.monotonic() + wait > deadline:
                        raise
                    logger.warning("%s; trying again in %.0f s", error, wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    async def close(self) -> None:
        """Close the connections."""
        self._images.close()
        await asyncio.gather(*(server.client.close() for server in self._servers))

    async def _one_round(self, request: ChatRequest, messages: list[dict[str, Any]]) -> ChatReply:
        """Send a request to one server after the other, until one answers."""
        tried: list[_Server] = []
        while True:
            server = self._pick(tried)
            tried.append(server)
            last = len(tried) == len(self._servers)
            try:
                return await self._send(server, request, messages, self.options.max_retries if last else 1)
            except Unreachable as error:
                server.rests_until = time.monotonic() + REST_SECONDS
                if last:
                    raise
                logger.warning("%s; trying another server", error)

    def _pick(self, tried: Sequence[_Server]) -> _Server:
        now = time.monotonic()
        free = [server for server in self._servers if server not in tried]
        return min(free, key=lambda server: (server.rests_until > now, server.in_flight))

    async def _render(self, message: Message) -> dict[str, Any]:
        if not message.images and not message.data_urls:
            return {"role": message.role, "content": message.text}
        urls = [*message.data_urls, *[await self._images.get(path) for path in message.images]]
        parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return {"role": message.role, "content": [*parts, {"type": "text", "text": message.text}]}

    async def _send(
        self, server: _Server, request: ChatRequest, messages: list[dict[str, Any]], max_retries: int
    ) -> ChatReply:
        server.in_flight += 1
        try:
            while True:
                asked = server.format
                try:
                    return await self._complete(server, request, messages, asked, max_retries)
                except APIStatusError as error:
                    if asked == "text" or request.schema is None or not _refuses_format(error):
                        raise
                    if self.options.needs_schema:
                        raise UnfitServer(
                            f"{server.label}: does not hold replies to our JSON schema, so there would be no valid "
                            f"scores: HTTP {error.status_code}: {self._clean(error)}"
                        ) from None
                    server.refuse_format(asked)
        except _NobodyThere as error:
            raise Unreachable(f"{server.label}: nobody answers there ({self._clean(error)})") from None
        except APIConnectionError as error:  # lost connections and timeouts
            raise Unreachable(f"{server.label}: no answer ({self._clean(error)})") from None
        except APIStatusError as error:
            kind = Unreachable if error.status_code >= 500 or error.status_code == 429 else ChatError
            raise kind(f"{server.label}: HTTP {error.status_code}: {self._clean(error)}") from None
        except APIError as error:
            raise ChatError(f"{server.label}: {self._clean(error)}") from None
        finally:
            server.in_flight -= 1

    async def _complete(
        self, server: _Server, request: ChatRequest, messages: list[dict[str, Any]], asked: str, max_retries: int
    ) -> ChatReply:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "seed": request.seed,
        }
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema is not None and asked != "text":
            body["response_format"] = _response_format(request, asked)
        # Content is sent as it is; `chat.completions.create` would walk through every megabyte of image first.
        content = JsonBody(body)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        text = await server.client.post(
            "/chat/completions",
            cast_to=str,
            content=content,
            options={"max_retries": max_retries, "headers": headers},
        )
        return to_reply(self._hide(text), server.label)

    def _clean(self, error: Exception) -> str:
        """What an error says, without the key."""
        said = ""
        if isinstance(error, APIConnectionError):  # what happened to the connection, only the cause knows
            said = str(error.__cause__ or "")
        elif isinstance(error, APIStatusError):
            said = words_of(error.response.text)
        return self._hide(said or str(error))[:SAID_LIMIT]

    def _hide(self, text: str) -> str:
        """Text of a server without the key: servers repeat keys that they refuse."""
        return text.replace(self._key, "***") if self._key else text

    def _remedy(self) -> str:
        if not self.options.base_urls:
            return "look whether this machine reaches the internet, or name a server of yours (--base-url)"
        return f"start a server there, such as `vllm serve {self.model}`, or correct the address (--base-url)"


def _read_key(api_key_env: str | None, has_urls: bool) -> str | None:
    if api_key_env is None and has_urls:
        return None
    name = api_key_env or "OPENAI_API_KEY"
    key = os.environ.get(name, "").strip()
    if not key:
        raise SettingError(f"the environment variable {name} is not set; it should hold the API key")
    return key


def _label(url: str | None) -> str:
    """An address fit for logs: without user name, password or query."""
    from urllib.parse import urlsplit

    if url is None:
        return "api.openai.com"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingError(f"base URL {url.rsplit('@', 1)[-1]!r}: expected something like http://localhost:8000/v1")
    return parts.netloc.rsplit("@", 1)[-1]


def _response_format(request: ChatRequest, asked: str) -> dict[str, Any]:
    if asked == "json_object":
        return {"type": "json_object"}
    schema = {"name": request.task.replace(":", "_"), "schema": request.schema, "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _refuses_format(error: APIStatusError) -> bool:
    text = words_of(error.response.text).lower()
    return error.status_code in (400, 404, 422, 501) and any(word in text for word in _REFUSED_FORMAT)
