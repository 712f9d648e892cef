"""Scoring by a server (`dyneval serve`), with the interface of a local scorer.

with Client("http://gpu-machine:8000") as client:
records = client.score(["cat.png"], ["a cat on a bench"])
"""

from __future__ import annotations

import dataclasses
import io
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dyneval.ahead import ahead
from dyneval.records import ScoreRecord
from dyneval.scorer.pairs import Failure, Pair

if TYPE_CHECKING:
    import httpx2
    from PIL import Image

_RETRIED = frozenset({429, 502, 503})
_ITEM_ERRORS = frozenset({413, 422, 500, 504})
"""The server cannot score this pair, but may well score others."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class ClientError(RuntimeError):
    """The server cannot be used, or could not score a pair; the message says which and why."""


class Client:
    """A DynEval server; may be used from several threads.

    Scores are 1-5, higher is better, as from `dyneval.Scorer`.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout: float = 180, patience: float = 600, workers: int = 8
    ) -> None:
        """Describe the server; nothing is sent yet.

        Args:
            url: where it listens, such as "http://127.0.0.1:8000".
            token: bearer token; default: the environment variable DYNEVAL_TOKEN.
            timeout: seconds that one answer may take.
            patience: seconds for which a pair is offered again while the server is busy or away.
            workers: requests at a time.
        """
        import httpx2

        token = token or os.environ.get("DYNEVAL_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx2.Limits(max_connections=workers, max_keepalive_connections=workers)
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=timeout, limits=limits)
        self._url = url
        self._patience = patience
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
        """The student that the server has: `model`, `revision`, `template`, `settings`. Raises ClientError."""
        answer = self._request("GET", "/v1/model")
        if answer.status_code != 200:
            raise ClientError(f"{self._url}: {_reason(answer)}")
        row: dict[str, Any] = answer.json()
        return row

    def score(self, images: Sequence[str | Path | Image.Image], prompts: Sequence[str]) -> list[ScoreRecord]:
        """Score images against the prompts they were made from.

        Args:
            images: files, sent as they are, or open images.
            prompts: as many, in the same order.

        Returns:
            One record a pair, in order; `t2ia`, `iqa` and `overall` are 1-5, higher is better.

        Raises:
            ClientError: a pair could not be scored, or the server cannot be used.
            OSError: a file cannot be read.
            ValueError: the numbers of images and prompts differ.
        """
        results = list(self._map(zip(map(_content, images), prompts, [None] * len(prompts), strict=True)))
        wrong = [f"pair {number}: {result}" for number, result in enumerate(results, 1) if isinstance(result, str)]
        if wrong:
            raise ClientError(f"{self._url}: {len(wrong)} pair(s) could not be scored: {'; '.join(wrong[:3])}")
        records = [result for result in results if isinstance(result, ScoreRecord)]
        return [dataclasses.replace(one, image=_name(image, one)) for one, image in zip(records, images, strict=True)]

    def score_pairs(self, pairs: Iterable[Pair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs as they come, several at a time; yields one result a pair, in order. Raises ClientError."""
        sent: deque[Pair] = deque()

        def uploads() -> Iterator[tuple[bytes, str, str | None]]:
            for pair in pairs:
                sent.append(pair)
                yield _content(pair.image), pair.prompt, pair.pair_id

        for result in self._map(uploads()):
            pair = sent.popleft()
            if isinstance(result, str):
                yield Failure(pair.pair_id, result)
            else:
                yield dataclasses.replace(result, image=pair.image_name)

    def _map(self, uploads: Iterable[tuple[bytes, str, str | None]]) -> Iterator[ScoreRecord | str]:
        """Results in order, or why there is none; at most twice `workers` pairs are held at a time."""
        return ahead((partial(self._score, *upload) for upload in uploads), self._workers)

    def _score(self, content: bytes, prompt: str, pair_id: str | None) -> ScoreRecord | str:
        fields = {"prompt": prompt} | ({"pair_id": pair_id} if pair_id else {})
        answer = self._request("POST", "/v1/score", files={"image": ("image", content)}, data=fields)
        if answer.status_code == 200:
            return ScoreRecord.from_dict(answer.json(), self._url)
        if answer.status_code in _ITEM_ERRORS:
            return _reason(answer)
        raise ClientError(f"{self._url}: {_reason(answer)}")

    def _request(self, method: str, path: str, **content: Any) -> httpx2.Response:
        """Send until the server has time for it. Raises ClientError when patience ends."""
        import httpx2

        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = self._http.request(method, path, **content)
                if answer.status_code not in _RETRIED:
                    return answer
                wait, why = _retry_after(answer, pause), _reason(answer)
            except httpx2.TransportError as error:
                wait, why = pause, str(error) or type(error).__name__
            wait *= random.uniform(1, 1.5)  # many clients should not come back at the same moment
            if time.monotonic() + wait > deadline:
                raise ClientError(f"{self._url}: no answer within {self._patience:g} s ({why})")
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _content(image: str | Path | Image.Image) -> bytes:
    if isinstance(image, str | Path):
        return Path(image).read_bytes()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _name(image: str | Path | Image.Image, record: ScoreRecord) -> str:
    return str(image) if isinstance(image, str | Path) else record.image


def _retry_after(answer: httpx2.Response, otherwise: float) -> float:
    value = answer.headers.get("retry-after", "")
    return min(float(value), _LONGEST_PAUSE) if value.isdigit() else otherwise


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"
