"""Client for a running `dyneval serve`. It has the methods of `Scorer`, so code can switch between the two.

    from dyneval import Client

    with Client("http://127.0.0.1:8000") as client:
        print(client.score(["cat.png"], ["a cat on a bench"])[0].overall)
        for result in client.score_many([("cat.png", "a cat on a bench")]):    # any number of pairs, several at a time
            print(result)
        for found in client.stream("cat.png", "a cat on a bench"):             # each pass of a pair as it ends
            print(found)

`AsyncClient` does the same in an event loop. What to send, and when to send it again, is written once, in
`_ClientBase`, as generators that do no input or output. If the two clients decided that on their own, one of them would
soon give up where the other goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from msgspec.structs import replace

from dyneval.choosing import Best, best_of
from dyneval.errors import ImageError, UserError, without_secrets
from dyneval.loaded_pairs import (
    Failure,
    LoadedPair,
    PassEnded,
    PromptError,
    checked_prompt,
    pair_or_failure,
    side_by_side,
)
from dyneval.records import ScoreName, ScoreRecord
from dyneval.work.ahead import ahead, ahead_async, each

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

# The queue is full (429), a proxy has lost its server (502), the student still loads (503): the same request can
# succeed a moment later.
_RETRIED = frozenset({429, 502, 503})
# The server cannot score this pair, but may well score others: one bad image must not end a run over thousands.
_ITEM_ERRORS = frozenset({408, 413, 422, 500, 504})
# Seconds. The pause doubles from the first to the longest, and applies where the server names no Retry-After.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# Seconds for making a connection. An answer has no limit by default, since the server itself ends what takes too long.
_CONNECT = 10.0
# Seconds that an idle connection is kept. Less than the 75 s of the server (`dyneval.serve.server`), so that the client
# never sends a request on a connection that the server is closing.
_IDLE = 60.0
# Requests at a time: where the server does not say how many fill it, and at most.
_FEW, _MANY = 8, 256
# Bytes of one event of a stream. A result with hundreds of questions is far smaller; a hostile server could send more.
_LARGEST_EVENT = 1 << 24
# A client may wait for an answer without end, so the operating system has to notice a machine that is gone: it does so
# after a silence of 60 + 4 x 15 s. Some systems lack some of the three names.
_SILENCE, _PROBE, _MOST_PROBES = 60, 15, 4
_PROBES = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", _SILENCE), ("TCP_KEEPINTVL", _PROBE), ("TCP_KEEPCNT", _MOST_PROBES))
    if hasattr(socket, name)
]


class ClientError(UserError, RuntimeError):
    """The server cannot be used, or could not score a pair; the message says which and why."""


class _Request(NamedTuple):
    """A request that is to be sent."""

    method: str
    path: str
    content: dict[str, Any]
    stream: bool = False
    """Leave the body of an answer with status 200 unread, to be read as it comes."""


_Value = TypeVar("_Value")
_Steps = Generator[_Request | float, Any, _Value]
"""What a client has to do: it sends each `_Request` and gives the answer, or the TransportError, back with `send`; it
waits for as many seconds as a float says. The generator returns the value that was asked for."""
Found = PassEnded | ScoreRecord
ValueRange = tuple[float, float]
Images = Iterable[tuple[Any, str]]
_MODEL = _Request("GET", "/v1/model", {})


class _ClientBase:
    """What both clients say to a server, and when they say it again; `Client` and `AsyncClient` send and wait."""

    _is_async: ClassVar[bool]
    _http: Any

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float | None = None,
        patience: float = 600,
        workers: int | None = None,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            url: where it listens, such as "http://127.0.0.1:8000".
            token: bearer token; default: the environment variable DYNEVAL_TOKEN.
            timeout: seconds that one answer may take. None: as long as the server takes, which ends what is too long by
                its own measure (504), so that no pair is offered again while it is still being scored.
            patience: seconds for which a pair is offered again while the server is busy or away, counted from the last
                answer to any request of this client: among many clients a pair may be out of luck for long. A server
                that was never there raises at once.
            workers: requests at a time; None: as many as keep the server full, as the server itself says.

        Raises:
            ClientError: `url` is not the address of a server.
        """
        import httpx2

        try:
            httpx2.URL(url)
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except (httpx2.InvalidURL, ValueError):  # such as a port that is no number, or brackets that do not close
            is_address = False
        if not is_address:
            shown = url.rpartition("@")[2]
            raise ClientError(f"{shown}: expected the address of a server, such as http://127.0.0.1:8000")

        token = token or os.environ.get("DYNEVAL_TOKEN")
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_IDLE)
        options: dict[str, Any] = {
            "base_url": url,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "timeout": httpx2.Timeout(timeout, connect=_CONNECT),
            "limits": limits,
        }
        if not getproxies():
            # Only without a proxy in the environment: httpx looks for none once it is given a transport.
            transport = httpx2.AsyncHTTPTransport if self._is_async else httpx2.HTTPTransport
            options["transport"] = transport(limits=limits, socket_options=_PROBES)
        self._http = httpx2.AsyncClient(**options) if self._is_async else httpx2.Client(**options)
        self.address = without_secrets(url)
        """Where the server is, for messages and files: without user, password and keys."""
        self._patience = patience
        self._was_there = False
        self._last_answer = 0.0
        self._workers = workers

    def _ok_steps(self, request: _Request) -> _Steps[httpx2.Response]:
        """The answer to a request, which must have status 200. Raises ClientError."""
        answer = yield from self._answer_steps(request)
        if answer.status_code != 200:
            raise ClientError(f"{self.address}: {_reason(answer)}")
        return answer

    def _workers_steps(self) -> _Steps[int]:
        """Requests at a time: as many as keep the server full, as it says, or a few where it does not say."""
        if self._workers is None:
            answer = yield from self._answer_steps(_MODEL)
            # Where the server cannot be used, nothing is raised here: the first pair then says why.
            try:
                filling = answer.json()["limits"]["filling"] if answer.status_code == 200 else None
            except (ValueError, KeyError, TypeError):
                filling = None
            self._workers = max(_FEW, min(_MANY, filling)) if isinstance(filling, int) else _FEW
        return self._workers

    def _pair_steps(self, pair: LoadedPair, content: dict[str, Any]) -> _Steps[ScoreRecord | Failure]:
        answer = yield from self._answer_steps(_Request("POST", "/v1/score", content))
        if answer.status_code == 200:
            return self._record(answer.content, pair)
        if answer.status_code in _ITEM_ERRORS:
            return Failure(pair.pair_id, _reason(answer))
        raise ClientError(f"{self.address}: {_reason(answer)}")

    def _answer_steps(self, request: _Request) -> _Steps[httpx2.Response]:
        """Send until the server has time for it. Raises ClientError when patience ends."""
        import httpx2

        began = time.monotonic()
        pause = _FIRST_PAUSE
        while True:
            answer = yield request
            wait = pause
            if isinstance(answer, httpx2.TransportError):
                why = str(answer) or type(answer).__name__
                if not self._was_there and isinstance(answer, httpx2.ConnectError):
                    message = f"{self.address}: nobody answers there ({why}); is dyneval serve running?"
                    raise ClientError(message) from answer
            else:
                self._was_there = True
                if answer.status_code not in _RETRIED:
                    self._last_answer = time.monotonic()
                    return answer
                why, retry_after = _reason(answer), answer.headers.get("retry-after", "")
                if retry_after.isdecimal():
                    wait = max(_FIRST_PAUSE, min(float(retry_after), _LONGEST_PAUSE))
            if pause == _FIRST_PAUSE:
                logger.warning("%s: %s; trying again for %g s", self.address, why, self._patience)
            wait *= random.uniform(1, 1.5)  # many clients should not come back at the same moment
            if time.monotonic() + wait > max(began, self._last_answer) + self._patience:
                raise ClientError(f"{self.address}: no answer within {self._patience:g} s ({why})")
            yield wait
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _record(self, content: bytes, pair: LoadedPair) -> ScoreRecord:
        # The server knows neither the caller's name of the pair nor that of its file.
        record = ScoreRecord.decode(content, self.address)
        return replace(record, pair_id=pair.pair_id, image=pair.image_name)

    def _found(self, event: httpx2.ServerSentEvent, pair: LoadedPair) -> Found | None:
        """What an event of a stream says; None of kinds that are not known here. Raises ClientError for an error."""
        if event.event == "result":
            return self._record(event.data.encode(), pair)
        if event.event == "pass":
            found: dict[str, Any] = json.loads(event.data)
            return PassEnded(found.pop("pass"), found)
        if event.event == "error":
            raise ClientError(f"{self.address}: {json.loads(event.data)['message']}")
        return None

    def _all_scored(self, results: Sequence[ScoreRecord | Failure]) -> list[ScoreRecord]:
        """The results, where all are records. Raises ClientError."""
        wrong = [f"pair {n}: {result.reason}" for n, result in enumerate(results, 1) if isinstance(result, Failure)]
        if wrong:
            raise ClientError(f"{self.address}: {len(wrong)} pair(s) could not be scored: {'; '.join(wrong[:3])}")
        return [result for result in results if isinstance(result, ScoreRecord)]

    def _broken_off(self, error: Exception | None = None) -> ClientError:
        why = f" ({str(error) or type(error).__name__})" if error else ""
        return ClientError(f"{self.address}: the answer ended in the middle{why}")


class Client(_ClientBase):
    """A DynEval server; may be used from several threads.

    Scores are 1-5, higher is better, as from `dyneval.Scorer`.
    """

    _is_async = False
    _http: httpx2.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def model(self) -> dict[str, Any]:
        """Ask which student the server has.

        Returns:
            `model`, `revision`, `template`, `settings`, `limits`, and `questions`: a name for the questions that the
            server was started with, None where the student asks its own.

        Raises:
            ClientError: the server cannot be used.
        """
        row: dict[str, Any] = self._follow(self._ok_steps(_MODEL)).json()
        return row

    def score(self, images: Any, prompts: Sequence[str], value_range: ValueRange | None = None) -> list[ScoreRecord]:
        """Score images against the prompts they were made from.

        Args:
            images: as of `Scorer.score`; files are sent as they are, all else as lossless PNG.
            prompts: as many, in the same order.
            value_range: what the values of arrays and tensors run between, such as (-1, 1).

        Returns:
            One record a pair, in order; `t2ia`, `iqa` and `overall` are 1-5, higher is better.

        Raises:
            ClientError: an image cannot be used, a pair could not be scored, or the server cannot be used.
            ValueError: images or prompts are no list, or their numbers differ.
        """
        return self._all_scored(list(self.score_many(side_by_side(images, prompts), value_range)))

    def score_many(self, images: Images, value_range: ValueRange | None = None) -> Iterator[ScoreRecord | Failure]:
        """Score any number of images with their prompts; yields one result each, in order.

        Args:
            images: (image, prompt) each, taken as they are needed: at most twice `workers` are held at a time.
            value_range: what the values of arrays and tensors run between, such as (-1, 1).

        Raises:
            ClientError: the server cannot be used.
        """
        numbered = enumerate(images, 1)
        readers = (partial(pair_or_failure, image, prompt, number, value_range) for number, (image, prompt) in numbered)
        return ahead((partial(self._score, read) for read in readers), self._follow(self._workers_steps()))

    def best(self, images: Any, prompt: str, score: ScoreName = "overall") -> Best:
        """Choose the best of several images of one prompt, as `Scorer.best`.

        Raises:
            ClientError: as `score`.
            ChoiceError: there is no image, or a record lacks the soft score that is to decide.
            ValueError: `images` is no list.
        """
        from dyneval.files.image_forms import each_image

        listed = each_image(images)
        return best_of(self.score(listed, [prompt] * len(listed)), score)

    def score_pairs(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs as they come, several at a time; yields one result a pair, in order.

        At most twice `workers` pairs are held at a time. Raises ClientError where the server cannot be used.
        """
        return ahead((partial(self._score, pair) for pair in pairs), self._follow(self._workers_steps()))

    def stream(self, image: Any, prompt: str, value_range: ValueRange | None = None) -> Iterator[Found]:
        """Score one image; yields each pass as it ends, and its record at last.

        Raises:
            ClientError: the image cannot be used, the pair cannot be scored, or the server cannot be used.
        """
        import httpx2

        prepared = _prepared(partial(pair_or_failure, image, prompt, 1, value_range))
        if isinstance(prepared, Failure):
            raise ClientError(f"{self.address}: {prepared.reason}")
        pair, content = prepared
        steps = self._ok_steps(_Request("POST", "/v1/score/stream", content, stream=True))
        with closing(self._follow(steps)) as answer:
            try:
                for event in httpx2.EventSource(answer, _LARGEST_EVENT):
                    if (found := self._found(event, pair)) is not None:
                        yield found
                    if isinstance(found, ScoreRecord):
                        return
            except httpx2.TransportError as error:
                raise self._broken_off(error) from error
        raise self._broken_off()

    def _score(self, pair: LoadedPair | Callable[[], LoadedPair | Failure]) -> ScoreRecord | Failure:
        prepared = _prepared(pair)
        return prepared if isinstance(prepared, Failure) else self._follow(self._pair_steps(*prepared))

    def _follow(self, steps: _Steps[_Value]) -> _Value:
        import httpx2

        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                value: _Value = done.value
                return value
            if isinstance(step, float):
                time.sleep(step)
                answer = None
                continue
            request = self._http.build_request(step.method, step.path, **step.content)
            try:
                answer = self._http.send(request, stream=step.stream)
                if step.stream and answer.status_code != 200:
                    answer.read()
            except httpx2.TransportError as error:
                answer = error


class AsyncClient(_ClientBase):
    """The same for an event loop: many requests at a time without a thread for each.

    A client belongs to the loop in which it was first used. In a coroutine:

        async with AsyncClient("http://127.0.0.1:8000") as client:
            records = await client.score(["cat.png"], ["a cat on a bench"])
            async for result in client.score_many([("cat.png", "a cat on a bench")]):
                print(result)
    """

    _is_async = True
    _http: httpx2.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def model(self) -> dict[str, Any]:
        """As `Client.model`."""
        row: dict[str, Any] = (await self._follow(self._ok_steps(_MODEL))).json()
        return row

    async def score(
        self, images: Any, prompts: Sequence[str], value_range: ValueRange | None = None
    ) -> list[ScoreRecord]:
        """As `Client.score`."""
        many = self.score_many(side_by_side(images, prompts), value_range)
        return self._all_scored([result async for result in many])

    async def score_many(
        self, images: Images | AsyncIterable[tuple[Any, str]], value_range: ValueRange | None = None
    ) -> AsyncIterator[ScoreRecord | Failure]:
        """As `Client.score_many`; the images may come from an asynchronous iterator too."""
        numbers = count(1)
        tasks = (
            partial(self._score, partial(pair_or_failure, image, prompt, next(numbers), value_range))
            async for image, prompt in each(images)
        )
        async with aclosing(ahead_async(tasks, await self._follow(self._workers_steps()))) as results:
            async for result in results:
                yield result

    async def score_pairs(
        self, pairs: Iterable[LoadedPair] | AsyncIterable[LoadedPair]
    ) -> AsyncIterator[ScoreRecord | Failure]:
        """As `Client.score_pairs`; the pairs may come from an asynchronous iterator too."""
        tasks = (partial(self._score, pair) async for pair in each(pairs))
        async with aclosing(ahead_async(tasks, await self._follow(self._workers_steps()))) as results:
            async for result in results:
                yield result

    async def best(self, images: Any, prompt: str, score: ScoreName = "overall") -> Best:
        """As `Client.best`."""
        from dyneval.files.image_forms import each_image

        listed = each_image(images)
        return best_of(await self.score(listed, [prompt] * len(listed)), score)

    async def stream(self, image: Any, prompt: str, value_range: ValueRange | None = None) -> AsyncIterator[Found]:
        """As `Client.stream`."""
        import httpx2

        prepared = await asyncio.to_thread(_prepared, partial(pair_or_failure, image, prompt, 1, value_range))
        if isinstance(prepared, Failure):
            raise ClientError(f"{self.address}: {prepared.reason}")
        pair, content = prepared
        answer = await self._follow(self._ok_steps(_Request("POST", "/v1/score/stream", content, stream=True)))
        try:
            async for event in httpx2.EventSource(answer, _LARGEST_EVENT):
                if (found := self._found(event, pair)) is not None:
                    yield found
                if isinstance(found, ScoreRecord):
                    return
        except httpx2.TransportError as error:
            raise self._broken_off(error) from error
        finally:
            await answer.aclose()
        raise self._broken_off()

    async def _score(self, pair: LoadedPair | Callable[[], LoadedPair | Failure]) -> ScoreRecord | Failure:
        # In a thread: it reads or writes an image file, which would hold up all other requests of the loop.
        prepared = await asyncio.to_thread(_prepared, pair)
        return prepared if isinstance(prepared, Failure) else await self._follow(self._pair_steps(*prepared))

    async def _follow(self, steps: _Steps[_Value]) -> _Value:
        import httpx2

        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as done:
                value: _Value = done.value
                return value
            if isinstance(step, float):
                await asyncio.sleep(step)
                answer = None
                continue
            request = self._http.build_request(step.method, step.path, **step.content)
            try:
                answer = await self._http.send(request, stream=step.stream)
                if step.stream and answer.status_code != 200:
                    await answer.aread()
            except httpx2.TransportError as error:
                answer = error


def _prepared(
    pair: LoadedPair | Callable[[], LoadedPair | Failure],
) -> tuple[LoadedPair, dict[str, Any]] | Failure:
    """A pair, or what `pair` reads, with the body of the request that asks about it; Failure where it cannot be used.

    An image is sent as the file that it came from, else as PNG.
    """
    from dyneval.files.images import png_bytes, read_file, upright_rgb

    loaded = pair() if callable(pair) else pair
    if isinstance(loaded, Failure):
        return loaded
    try:
        prompt = checked_prompt(loaded.prompt)
        if isinstance(loaded.file, bytes):
            file = loaded.file
        elif loaded.file is not None:
            file = read_file(loaded.file, loaded.image_name)
        else:
            file = png_bytes(upright_rgb(loaded.image, loaded.image_name))
    except (ImageError, PromptError) as error:
        return Failure(loaded.pair_id, str(error))
    return loaded, {"data": {"prompt": prompt}, "files": {"image": ("image", file)}}


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
