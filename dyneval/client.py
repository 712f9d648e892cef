"""Scoring by a server (`dyneval serve`), with the interface of a local scorer.

with Client("http://gpu-machine:8000") as client:
    records = client.score(["cat.png"], ["a cat on a bench"])
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies

from msgspec.structs import replace

from dyneval.choosing import Best, best_of
from dyneval.errors import UserError, without_secrets
from dyneval.loaded_pairs import Failure, Pair, PromptError, checked_prompt, score_each
from dyneval.records import ScoreName, ScoreRecord
from dyneval.work.ahead import ahead

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)
_RETRIED = frozenset({429, 502, 503})
_ITEM_ERRORS = frozenset({408, 413, 422, 500, 504})
"""The server cannot score this pair, but may well score others."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_CONNECT = 10.0
"""Seconds until a connection has to be there."""
_SILENCE, _PROBE, _MOST_PROBES = 60, 15, 4
"""A machine that is no longer there is noticed after a silence of 60 + 4 x 15 s, by the system's own probes."""
_PROBES = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", _SILENCE), ("TCP_KEEPINTVL", _PROBE), ("TCP_KEEPCNT", _MOST_PROBES))
    if hasattr(socket, name)
]


class ClientError(UserError, RuntimeError):
    """The server cannot be used, or could not score a pair; the message says which and why."""


class Client:
    """A DynEval server; may be used from several threads.

    Scores are 1-5, higher is better, as from `dyneval.Scorer`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float | None = None,
        patience: float = 600,
        workers: int = 8,
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            url: where it listens, such as "http://127.0.0.1:8000".
            token: bearer token; default: the environment variable DYNEVAL_TOKEN.
            timeout: seconds that one answer may take. None: as long as the server takes, which ends what is too long by
                its own measure (504), so that no pair is offered again while it is still being scored.
            patience: seconds for which a pair is offered again while the server is busy or away. A server that was
                never there is told at once.
            workers: requests at a time.

        Raises:
            ClientError: the address is none.
        """
        import httpx2

        if not _is_address(url):
            shown = url.rpartition("@")[2]
            raise ClientError(f"{shown}: expected the address of a server, such as http://127.0.0.1:8000")

        token = token or os.environ.get("DYNEVAL_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx2.Limits(max_connections=workers, max_keepalive_connections=workers)
        times = httpx2.Timeout(timeout, connect=_CONNECT)
        # Where a transport is given, httpx looks for no proxy in the environment.
        transport = None if getproxies() else httpx2.HTTPTransport(limits=limits, socket_options=_PROBES)
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=times, limits=limits, transport=transport)
        self.address = without_secrets(url)
        """Where the server is, for messages and files: without what lets one in."""
        self._patience = patience
        self._was_there = False
        self._workers = workers

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
        answer = self._request("GET", "/v1/model")
        if answer.status_code != 200:
            raise ClientError(f"{self.address}: {_reason(answer)}")
        row: dict[str, Any] = answer.json()
        return row

    def score(
        self, images: Any, prompts: Sequence[str], value_range: tuple[float, float] | None = None
    ) -> list[ScoreRecord]:
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
        results = score_each(self.score_pairs, images, prompts, value_range)
        wrong = [f"pair {n}: {result.reason}" for n, result in enumerate(results, 1) if isinstance(result, Failure)]
        if wrong:
            raise ClientError(f"{self.address}: {len(wrong)} pair(s) could not be scored: {'; '.join(wrong[:3])}")
        return [result for result in results if isinstance(result, ScoreRecord)]

    def best(self, images: Any, prompt: str, score: ScoreName = "overall") -> Best:
        """The best of several images of one prompt, as `Scorer.best`. Raises ClientError, ChoiceError, ValueError."""
        from dyneval.files.image_forms import each_image

        each = each_image(images)
        return best_of(self.score(each, [prompt] * len(each)), score)

    def score_pairs(self, pairs: Iterable[Pair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs as they come, several at a time; yields one result a pair, in order. Raises ClientError.

        At most twice `workers` pairs are held at a time.
        """
        return ahead((partial(self._score, pair) for pair in pairs), self._workers)

    def _score(self, pair: Pair) -> ScoreRecord | Failure:
        from dyneval.errors import ImageError

        try:
            prompt = checked_prompt(pair.prompt)
            files = {"image": ("image", _file(pair))}
        except (ImageError, PromptError) as error:
            return Failure(pair.pair_id, str(error))
        answer = self._request("POST", "/v1/score", files=files, data={"prompt": prompt})
        if answer.status_code == 200:
            record = ScoreRecord.decode(answer.content, self.address)
            return replace(record, pair_id=pair.pair_id, image=pair.image_name)
        if answer.status_code in _ITEM_ERRORS:
            return Failure(pair.pair_id, _reason(answer))
        raise ClientError(f"{self.address}: {_reason(answer)}")

    def _request(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """Send until the server has time for it. Raises ClientError when patience ends."""
        import httpx2

        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = self._http.request(method, path, **content)
                self._was_there = True
                if answer.status_code not in _RETRIED:
                    return answer
                wait, why = _retry_after(answer, pause), _reason(answer)
            except httpx2.TransportError as error:
                wait, why = pause, str(error) or type(error).__name__
                if not self._was_there and isinstance(error, httpx2.ConnectError):
                    told = f"{self.address}: nobody answers there ({why}); is dyneval serve running?"
                    raise ClientError(told) from error
            if pause == _FIRST_PAUSE:
                logger.warning("%s: %s; trying again for %g s", self.address, why, self._patience)
            wait *= random.uniform(1, 1.5)  # many clients should not come back at the same moment
            if time.monotonic() + wait > deadline:
                raise ClientError(f"{self.address}: no answer within {self._patience:g} s ({why})")
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _is_address(url: str) -> bool:
    import httpx2

    try:
        httpx2.URL(url)
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (httpx2.InvalidURL, ValueError):  # such as a port that is no number, or brackets that do not close
        return False


def _file(pair: Pair) -> bytes:
    """The image as a file: the one it came from, else a PNG. Raises ImageError."""
    from dyneval.files.images import png_bytes, read_file, upright_rgb

    if isinstance(pair.file, bytes):
        return pair.file
    if pair.file is not None:
        return read_file(pair.file, pair.image_name)
    return png_bytes(upright_rgb(pair.image, pair.image_name))


def _retry_after(answer: httpx2.Response, otherwise: float) -> float:
    value = answer.headers.get("retry-after", "")
    return min(float(value), _LONGEST_PAUSE) if value.isdigit() else otherwise


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
