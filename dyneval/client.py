"""Scoring by a server (`dyneval serve`), with the interface of a local scorer.

with Client("http://gpu-machine:8000") as client:
    records = client.score(["cat.png"], ["a cat on a bench"])
    for result in client.score_many((path, prompt) for path, prompt in pairs): ...    # any number of them
    for found in client.stream("cat.png", "a cat on a bench"): ...                    # each pass as it ends

`AsyncClient` does the same in an event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from msgspec.structs import replace

from dyneval.choosing import Best, best_of
from dyneval.errors import UserError, without_secrets
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
_RETRIED = frozenset({429, 502, 503})
_ITEM_ERRORS = frozenset({408, 413, 422, 500, 504})
"""The server cannot score this pair, but may well score others."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_CONNECT = 10.0
"""Seconds until a connection has to be there."""
_IDLE = 60.0
"""Seconds that a connection is kept for the next request; the server does for 75."""
_FEW, _MANY = 8, 256
"""Requests at a time, where the server says nothing else, and at most."""
_LARGEST_EVENT = 1 << 24
_SILENCE, _PROBE, _MOST_PROBES = 60, 15, 4
"""A machine that is no longer there is noticed after a silence of 60 + 4 x 15 s, by the system's own probes."""
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
    """Leave the body of a good answer to be read as it comes."""


_Value = TypeVar("_Value")
_Steps = Generator[_Request | float, Any, _Value]
"""What is to be done: requests to send, to which their answer or TransportError is sent in, and seconds to wait."""
Found = PassEnded | ScoreRecord
ValueRange = tuple[float, float]
Images = Iterable[tuple[Any, str]]


class _ClientBase:
    """What both clients say to a server, and when again, as `_Steps`: one follows them in threads, one in a loop."""

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
                that was never there is told at once.
            workers: requests at a time; None: as many as keep the server full, by its own word.

        Raises:
            ClientError: the address is none.
        """
        import httpx2

        if not _is_address(url):
            shown = url.rpartition("@")[2]
            raise ClientError(f"{shown}: expected the address of a server, such as http://127.0.0.1:8000")

        token = token or os.environ.get("DYNEVAL_TOKEN")
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_IDLE)
        # Where a transport is given, httpx looks for no proxy in the environment.
        transport = None if getproxies() else {"limits": limits, "socket_options": _PROBES}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        times = httpx2.Timeout(timeout, connect=_CONNECT)
        self._open(transport, base_url=url, headers=headers, timeout=times, limits=limits)
        self.address = without_secrets(url)
        """Where the server is, for messages and files: without what lets one in."""
        self._patience = patience
        self._was_there = False
        self._answered = 0.0
        """When a request had its answer."""
        self._workers = workers

    def _open(self, transport: dict[str, Any] | None, **options: Any) -> None:
        """Make the client of httpx."""
        raise NotImplementedError

    def _model_steps(self) -> _Steps[dict[str, Any]]:
        answer = yield from self._asked(_Request("GET", "/v1/model", {}))
        if answer.status_code != 200:
            raise ClientError(f"{self.address}: {_reason(answer)}")
        row: dict[str, Any] = answer.json()
        return row

    def _together_steps(self) -> _Steps[int]:
        """Requests at a time: as many as keep the server full, by its own word, or a few where it does not say.

        If it cannot be used, the first pair tells why.
        """
        if self._workers is None:
            answer = yield from self._asked(_Request("GET", "/v1/model", {}))
            try:
                filling = answer.json()["limits"]["filling"] if answer.status_code == 200 else None
            except (ValueError, KeyError, TypeError):
                filling = None
            self._workers = max(_FEW, min(_MANY, filling)) if isinstance(filling, int) else _FEW
        return self._workers

    def _pair_steps(self, pair: LoadedPair, content: dict[str, Any]) -> _Steps[ScoreRecord | Failure]:
        answer = yield from self._asked(_Request("POST", "/v1/score", content))
        if answer.status_code == 200:
            return self._record(answer.content, pair)
        if answer.status_code in _ITEM_ERRORS:
            return Failure(pair.pair_id, _reason(answer))
        raise ClientError(f"{self.address}: {_reason(answer)}")

    def _stream_steps(self, content: dict[str, Any]) -> _Steps[httpx2.Response]:
        answer = yield from self._asked(_Request("POST", "/v1/score/stream", content, stream=True))
        if answer.status_code != 200:
            raise ClientError(f"{self.address}: {_reason(answer)}")
        return answer

    def _asked(self, send: _Request) -> _Steps[httpx2.Response]:
        """Send until the server has time for it. Raises ClientError when patience ends."""
        import httpx2

        began = time.monotonic()
        pause = _FIRST_PAUSE
        while True:
            answer = yield send
            if isinstance(answer, httpx2.TransportError):
                wait, why = pause, str(answer) or type(answer).__name__
                if not self._was_there and isinstance(answer, httpx2.ConnectError):
                    told = f"{self.address}: nobody answers there ({why}); is dyneval serve running?"
                    raise ClientError(told) from answer
            else:
                self._was_there = True
                if answer.status_code not in _RETRIED:
                    self._answered = time.monotonic()
                    return answer
                wait, why = _retry_after(answer, pause), _reason(answer)
            if pause == _FIRST_PAUSE:
                logger.warning("%s: %s; trying again for %g s", self.address, why, self._patience)
            wait *= random.uniform(1, 1.5)  # many clients should not come back at the same moment
            if time.monotonic() + wait > max(began, self._answered) + self._patience:
                raise ClientError(f"{self.address}: no answer within {self._patience:g} s ({why})")
            yield wait
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _record(self, content: bytes, pair: LoadedPair) -> ScoreRecord:
        record = ScoreRecord.decode(content, self.address)
        return replace(record, pair_id=pair.pair_id, image=pair.image_name)

    def _found(self, event: httpx2.ServerSentEvent, pair: LoadedPair) -> Found | None:
        """What an event of a stream tells. Raises ClientError, also of a pair that could not be scored."""
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

    def _streamed(self, image: Any, prompt: str, value_range: ValueRange | None) -> tuple[LoadedPair, dict[str, Any]]:
        """A pair and the body that asks about it. Raises ClientError."""
        pair = pair_or_failure(image, prompt, 1, value_range)
        if isinstance(pair, Failure):
            raise ClientError(f"{self.address}: {pair.reason}")
        content = _content(pair)
        if isinstance(content, Failure):
            raise ClientError(f"{self.address}: {content.reason}")
        return pair, content

    def _broken(self, error: Exception | None = None) -> ClientError:
        why = f" ({str(error) or type(error).__name__})" if error else ""
        return ClientError(f"{self.address}: the answer ended in the middle{why}")


class Client(_ClientBase):
    """A DynEval server; may be used from several threads.

    Scores are 1-5, higher is better, as from `dyneval.Scorer`.
    """

    def _open(self, transport: dict[str, Any] | None, **options: Any) -> None:
        import httpx2

        self._http = httpx2.Client(transport=httpx2.HTTPTransport(**transport) if transport else None, **options)

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
        """The student that the server has. Raises ClientError.

        `model`, `revision`, `template`, `settings`, and `questions`: a name for those that it was given, None for none.
        """
        return self._follow(self._model_steps())

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
        """Score any number of images with their prompts; yields one result each, in order. Raises ClientError.

        Args:
            images: (image, prompt) each, taken as they are needed: at most twice `workers` are held at a time.
            value_range: what the values of arrays and tensors run between, such as (-1, 1).
        """
        numbered = enumerate(images, 1)
        tasks = (partial(self._score_form, image, prompt, number, value_range) for number, (image, prompt) in numbered)
        return ahead(tasks, self._together())

    def best(self, images: Any, prompt: str, score: ScoreName = "overall") -> Best:
        """The best of several images of one prompt, as `Scorer.best`. Raises ClientError, ChoiceError, ValueError."""
        from dyneval.files.image_forms import each_image

        each = each_image(images)
        return best_of(self.score(each, [prompt] * len(each)), score)

    def score_pairs(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs as they come, several at a time; yields one result a pair, in order. Raises ClientError.

        At most twice `workers` pairs are held at a time.
        """
        return ahead((partial(self._score, pair) for pair in pairs), self._together())

    def stream(self, image: Any, prompt: str, value_range: ValueRange | None = None) -> Iterator[Found]:
        """Score one image; yields each pass as it ends, and its record at last.

        Raises:
            ClientError: the image cannot be used, the pair not be scored, or the server not be used.
        """
        import httpx2

        pair, content = self._streamed(image, prompt, value_range)
        with closing(self._follow(self._stream_steps(content))) as answer:
            try:
                for event in httpx2.EventSource(answer, _LARGEST_EVENT):
                    if (found := self._found(event, pair)) is not None:
                        yield found
                    if isinstance(found, ScoreRecord):
                        return
            except httpx2.TransportError as error:
                raise self._broken(error) from error
        raise self._broken()

    def _together(self) -> int:
        return self._follow(self._together_steps())

    def _score_form(
        self, image: Any, prompt: Any, number: int, value_range: ValueRange | None
    ) -> ScoreRecord | Failure:
        pair = pair_or_failure(image, prompt, number, value_range)
        return pair if isinstance(pair, Failure) else self._score(pair)

    def _score(self, pair: LoadedPair) -> ScoreRecord | Failure:
        content = _content(pair)
        return content if isinstance(content, Failure) else self._follow(self._pair_steps(pair, content))

    def _follow(self, steps: _Steps[_Value]) -> _Value:
        try:
            step = next(steps)
            while True:
                if isinstance(step, float):
                    time.sleep(step)
                    step = next(steps)
                else:
                    step = steps.send(self._sent(step))
        except StopIteration as done:
            made: _Value = done.value
            return made

    def _sent(self, send: _Request) -> httpx2.Response | httpx2.TransportError:
        import httpx2

        request = self._http.build_request(send.method, send.path, **send.content)
        try:
            answer = self._http.send(request, stream=send.stream)
            if send.stream and answer.status_code != 200:
                answer.read()
        except httpx2.TransportError as error:
            return error
        return answer


class AsyncClient(_ClientBase):
    """The same for an event loop, which it belongs to: many requests at a time without a thread for each.

    async with AsyncClient("http://gpu-machine:8000") as client:
        records = await client.score(["cat.png"], ["a cat on a bench"])
        async for result in client.score_many(images): ...
    """

    def _open(self, transport: dict[str, Any] | None, **options: Any) -> None:
        import httpx2

        wire = httpx2.AsyncHTTPTransport(**transport) if transport else None
        self._http = httpx2.AsyncClient(transport=wire, **options)

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
        return await self._follow(self._model_steps())

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

        async def tasks() -> AsyncIterator[partial[Coroutine[Any, Any, ScoreRecord | Failure]]]:
            number = 0
            async for image, prompt in each(images):
                number += 1
                yield partial(self._score_form, image, prompt, number, value_range)

        async with aclosing(ahead_async(tasks(), await self._together())) as results:
            async for result in results:
                yield result

    async def score_pairs(
        self, pairs: Iterable[LoadedPair] | AsyncIterable[LoadedPair]
    ) -> AsyncIterator[ScoreRecord | Failure]:
        """As `Client.score_pairs`; the pairs may come from an asynchronous iterator too."""
        tasks = (partial(self._score, pair) async for pair in each(pairs))
        async with aclosing(ahead_async(tasks, await self._together())) as results:
            async for result in results:
                yield result

    async def best(self, images: Any, prompt: str, score: ScoreName = "overall") -> Best:
        """As `Client.best`."""
        from dyneval.files.image_forms import each_image

        each_one = each_image(images)
        return best_of(await self.score(each_one, [prompt] * len(each_one)), score)

    async def stream(self, image: Any, prompt: str, value_range: ValueRange | None = None) -> AsyncIterator[Found]:
        """As `Client.stream`."""
        import httpx2

        pair, content = await asyncio.to_thread(self._streamed, image, prompt, value_range)
        answer = await self._follow(self._stream_steps(content))
        try:
            async for event in httpx2.EventSource(answer, _LARGEST_EVENT):
                if (found := self._found(event, pair)) is not None:
                    yield found
                if isinstance(found, ScoreRecord):
                    return
        except httpx2.TransportError as error:
            raise self._broken(error) from error
        finally:
            await answer.aclose()
        raise self._broken()

    async def _together(self) -> int:
        return await self._follow(self._together_steps())

    async def _score_form(
        self, image: Any, prompt: Any, number: int, value_range: ValueRange | None
    ) -> ScoreRecord | Failure:
        pair = await asyncio.to_thread(pair_or_failure, image, prompt, number, value_range)
        return pair if isinstance(pair, Failure) else await self._score(pair)

    async def _score(self, pair: LoadedPair) -> ScoreRecord | Failure:
        content = await asyncio.to_thread(_content, pair)  # reads a file, or makes one
        return content if isinstance(content, Failure) else await self._follow(self._pair_steps(pair, content))

    async def _follow(self, steps: _Steps[_Value]) -> _Value:
        try:
            step = next(steps)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = next(steps)
                else:
                    step = steps.send(await self._sent(step))
        except StopIteration as done:
            made: _Value = done.value
            return made

    async def _sent(self, send: _Request) -> httpx2.Response | httpx2.TransportError:
        import httpx2

        request = self._http.build_request(send.method, send.path, **send.content)
        try:
            answer = await self._http.send(request, stream=send.stream)
            if send.stream and answer.status_code != 200:
                await answer.aread()
        except httpx2.TransportError as error:
            return error
        return answer


def _is_address(url: str) -> bool:
    import httpx2

    try:
        httpx2.URL(url)
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (httpx2.InvalidURL, ValueError):  # such as a port that is no number, or brackets that do not close
        return False


def _content(pair: LoadedPair) -> dict[str, Any] | Failure:
    """The body that asks about a pair, or why there is none."""
    from dyneval.errors import ImageError

    try:
        return {"data": {"prompt": checked_prompt(pair.prompt)}, "files": {"image": ("image", _file(pair))}}
    except (ImageError, PromptError) as error:
        return Failure(pair.pair_id, str(error))


def _file(pair: LoadedPair) -> bytes:
    """The image as a file: the one it came from, else a PNG. Raises ImageError."""
    from dyneval.files.images import png_bytes, read_file, upright_rgb

    if isinstance(pair.file, bytes):
        return pair.file
    if pair.file is not None:
        return read_file(pair.file, pair.image_name)
    return png_bytes(upright_rgb(pair.image, pair.image_name))


def _retry_after(answer: httpx2.Response, otherwise: float) -> float:
    value = answer.headers.get("retry-after", "")
    return max(_FIRST_PAUSE, min(float(value), _LONGEST_PAUSE)) if value.isdecimal() else otherwise


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
