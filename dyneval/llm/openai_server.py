"""Chat through OpenAI-compatible servers (vLLM, SGLang, hosted ones), several at a time, balanced by load.

Most of this file decides whose fault a failure is. A run of days must outlive a server that restarts, must not stop
because one prompt is refused, and must stop at once when nothing will ever be answered. `dyneval.llm.server` sends the
requests to one server; `dyneval.llm.dialect` has the forms in which they can be sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from dyneval.errors import SettingError
from dyneval.llm.chat import (
    ENGINE_FAILURES,
    ChatError,
    ChatReply,
    ChatRequest,
    Declined,
    EngineStopped,
    Refused,
    UnfitServer,
    Unreachable,
)
from dyneval.llm.dialect import Dialect, known_good, names, own_fields
from dyneval.llm.pictures import DataUrls
from dyneval.llm.registry import ServerOptions
from dyneval.llm.server import Server

logger = logging.getLogger(__name__)

# A server that could not be reached gets no new requests for this many seconds, as long as another one answers.
REST_SECONDS = 15.0
# Seconds between rounds over all servers while none answers, doubled each time.
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0
# After so many rounds without an answer, a probe tells whether only this request gets none: it may crash the server.
ROUNDS = 3
# Statuses by which a server says that it is overloaded; they never mean the request.
_BUSY = (429, 503, 529)
# Statuses of servers that refuse a field, even where their words do not name it.
_MAY_BE_FORM = (400, 422)


class OpenAIEngine:
    """A model behind one or more OpenAI-compatible servers.

    Rate limits (429), server errors and lost connections are retried by the `openai` package, `max_retries` times with
    growing pauses, following Retry-After. With several servers a request goes to the least loaded one, and to another
    one if that cannot be reached. When none can be reached, `patience` says how long to go on.

    A request that fails for good is compared with one that is known to be good. If that one is answered, the first is
    refused alone. If it is answered only in another dialect, all later requests use that dialect. If it is refused as
    well, the engine stops, with the words of the server.
    """

    name = "openai"

    def __init__(
        self,
        model: str,
        options: ServerOptions,
    ) -> None:
        """Connect to nothing yet. `model` is the name of the model on the servers.

        Raises:
            SettingError: the environment variable of the key is not set, an address is not one of a server, or a server
                option cannot be set.
        """
        self.model = model
        self.options = options
        self._slots = asyncio.Semaphore(options.concurrency)
        # A picture of 1024x1024 takes two megabytes; three requests about it come close together.
        self._images = DataUrls(options.max_pixels, keep=8 + 3 * options.concurrency // 2)
        key, own = None, own_fields(options.server_options)
        if options.api_key_env is not None or not options.base_urls:  # a user's own server may need no key
            name = options.api_key_env or "OPENAI_API_KEY"
            key = os.environ.get(name, "").strip()
            if not key:
                raise SettingError(f"the environment variable {name} is not set; it should hold the API key")
        self._servers = [Server(url, model, key, options.timeout, own) for url in options.base_urls or (None,)]
        self._dropped: list[Server] = []
        """Servers that refused everything and get no more requests."""

    @property
    def labels(self) -> list[str]:
        """The servers' addresses, without keys, for logs."""
        return [server.label for server in self._servers]

    @property
    def notes(self) -> list[str]:
        """What was found out about the servers, for the summary of a run."""
        return [note for server in (*self._servers, *self._dropped) for note in server.notes]

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request.

        Raises:
            Refused: this request gets no reply, while others do.
            ChatError: no server gives a reply.
            EngineStopped: no server listens at any of the addresses, and none ever did; or all servers refuse every
                request.
            UnfitServer: a server refuses the schema, and `needs_schema` says that replies without it are of no use.
            ImageError: an image cannot be used.
        """
        # Images are encoded before a slot is taken, so that no slot waits for the CPU.
        messages = await self._rendered(request)
        wait, deadline, rounds = FIRST_WAIT, time.monotonic() + self.options.patience, 0
        async with self._slots:
            while True:
                begun = time.monotonic()
                try:
                    return await self._one_round(request, messages)
                except Unreachable as error:
                    if all(server.was_never_there for server in self._servers):
                        raise EngineStopped(f"{error}; {self._servers[-1].remedy()}") from None
                    rounds += 1
                    is_over = time.monotonic() + wait > deadline
                    # No probe at once: a server that is starting again would not answer it either. After a 500 it is
                    # there, and may have failed over this request alone.
                    is_due = error.status == 500 or rounds >= ROUNDS or is_over
                    if is_due and error.status not in _BUSY and await self._answers_others(request, error, begun):
                        raise Refused(f"{error}; the server answers otherwise") from None
                    if is_over:
                        raise
                    logger.warning("%s; trying again in %.0f s", error, wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    async def close(self) -> None:
        """Close the connections."""
        self._images.close()
        await asyncio.gather(*(server.client.close() for server in (*self._servers, *self._dropped)))

    async def _one_round(self, request: ChatRequest, messages: list[dict[str, Any]]) -> ChatReply:
        """Send a request to one server after the other, until one answers."""
        tried: list[Server] = []
        lost: Unreachable | None = None
        # Other requests may drop servers meanwhile, so the list is made again each time.
        while untried := [server for server in self._servers if server not in tried]:
            now = time.monotonic()
            server = min(untried, key=lambda one: (one.rests_until > now, one.in_flight))
            tried.append(server)
            is_last = all(one in tried for one in self._servers)
            try:
                # Another server is asked after one retry; only the last one gets all of them.
                return await self._ask(server, request, messages, self.options.max_retries if is_last else 1)
            except Unreachable as error:
                server.rests_until = time.monotonic() + REST_SECONDS
                lost = error
                if not is_last:
                    logger.warning("%s; trying another server", error)
            except EngineStopped as error:
                if self._servers == [server]:
                    raise
                if server in self._servers:
                    self._servers.remove(server)
                    self._dropped.append(server)
                    server.note(f"left out from here on ({error})")
        raise lost or Unreachable("all servers were left out")

    async def _rendered(self, request: ChatRequest) -> list[dict[str, Any]]:
        """The messages of a request as a server takes them, images as data URLs before the text."""
        rendered: list[dict[str, Any]] = []
        for message in request.messages:
            content: Any = message.text
            if message.images or message.data_urls:
                urls = [*message.data_urls, *[await self._images.get(path) for path in message.images]]
                parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
                content = [*parts, {"type": "text", "text": message.text}]
            rendered.append({"role": message.role, "content": content})
        return rendered

    async def _ask(
        self, server: Server, request: ChatRequest, messages: list[dict[str, Any]], max_retries: int
    ) -> ChatReply:
        """Get a reply from one server, in a dialect that it accepts. Raises as `chat`, and Unreachable."""
        server.in_flight += 1
        try:
            while True:
                dialect, sent = server.dialect, time.monotonic()
                try:
                    reply = await server.send(dialect, request, messages, max_retries)
                except Declined as error:
                    await self._judge(server, dialect, request, error)
                    continue
                server.answered(request, sent)
                return reply
        finally:
            server.in_flight -= 1

    # -----------------------------------------------------------------------------------------------------------------
    # Whose fault a failure is

    async def _judge(self, server: Server, dialect: Dialect, request: ChatRequest, error: Declined) -> None:
        """Find out whether a server refuses only this request; returns where it should be sent again.

        Raises:
            Refused: it refuses only this one.
            EngineStopped, UnfitServer: it refuses all requests of its kind.
        """
        refused_at = time.monotonic()
        async with server.judging:
            if server.dialect != dialect:  # another request, judged before this one, has changed the dialect
                return
            if not server.has_answered(request, refused_at):
                # After every 20 refusals the probe asks for as long a reply as the request: the server may refuse that.
                in_a_row = server.refused(request)
                probe = known_good(request, is_short=in_a_row % ENGINE_FAILURES != 0)
                try:
                    await self._probe(server, dialect, probe)
                except Declined as declined:
                    server.dialect = await self._other_dialect(server, dialect, probe, declined)
                    return
                except ChatError:  # the probe got no answer; but the server has just answered, so it is there
                    raise Refused(str(error)) from None
        raise Refused(f"{error}; the server answers otherwise") from None

    async def _answers_others(self, request: ChatRequest, error: Unreachable, since: float) -> bool:
        """True where a server answers requests of the same kind that were sent after a failed one."""
        for server in self._servers:
            async with server.judging:
                if server.has_answered(request, since):
                    return True
                try:
                    await self._probe(server, server.dialect, known_good(request, is_short=True))
                except Unreachable as failed:
                    # The probe's connection was lost, which says nothing; the request itself had an answer.
                    if error.status and not failed.status and await server.is_there():
                        return True
                except ChatError:
                    continue
                else:
                    return True
        return False

    async def _other_dialect(self, server: Server, dialect: Dialect, probe: ChatRequest, declined: Declined) -> Dialect:
        """The nearest dialect that a server accepts. Raises EngineStopped or UnfitServer: there is none."""
        needs_schema = self.options.needs_schema and probe.schema is not None
        reasons = {str(declined): None}  # a dict, for distinct reasons in their order
        for other, is_named in dialect.alternatives(str(declined)):
            if not is_named and declined.status not in _MAY_BE_FORM:
                break
            if needs_schema and other.response_format != dialect.response_format:
                continue
            try:
                await self._probe(server, other, probe)
            except ChatError as error:
                reasons[str(error)] = None
                continue
            changed = other.difference(dialect)
            server.note(f"does not take all fields of a request, going on with {changed} ({'; '.join(reasons)})")
            return other
        if needs_schema and names("response_format", str(declined)):
            raise UnfitServer(f"{declined}; without replies held to our JSON schema there are no valid scores")
        if probe.top_logprobs and "logprob" in str(declined).lower():
            raise UnfitServer(f"{declined}; soft scores are made from log-probabilities (logprobs, top_logprobs)")
        raise EngineStopped(f"{declined}; {server.remedy(declined.status)}")

    async def _probe(self, server: Server, dialect: Dialect, probe: ChatRequest) -> None:
        """Send a request that is known to be good. Raises as `Server.send`."""
        sent = time.monotonic()
        await server.send(dialect, probe, await self._rendered(probe), min(1, self.options.max_retries))
        server.answered(probe, sent, is_probe=True)
