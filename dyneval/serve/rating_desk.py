"""The routes of the page on which people rate pairs: where they stand, what they see, what they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from dyneval.errors import ImageError
from dyneval.files.images import MAX_PIXELS
from dyneval.serve.bodies import arrived
from dyneval.serve.decoding import DecoderError, Decoders
from dyneval.serve.ratings import PairRating, Ratings, RatingsFull, checked_name
from dyneval.serve.refusal import Refusal, late, too_large, unavailable, unprocessable

_LARGEST_BODY = 4096
"""Bytes of a verdict."""
_PICTURES = 8
"""Pictures that are being made and sent at a time: PNGs of up to 13 MB."""
_PIECE = 1 << 16
_SIDE = 2048
"""Longest side of a picture as raters see it, in pixels."""
_DECODING = 15
"""Seconds of computing: pictures have up to four times as many pixels as those of requests."""


class RatingDesk:
    """Answers raters; their pictures are decoded in processes of their own, and each is sent in time or not at all."""

    def __init__(self, ratings: Ratings, timeout: float) -> None:
        """`ratings`: pairs and verdicts, open; `timeout`: seconds from a request's arrival to the end of its answer."""
        self._ratings = ratings
        self._timeout = timeout
        self._decoders = Decoders(MAX_PIXELS, _DECODING)
        self._places = asyncio.Semaphore(_PICTURES)

    def close(self) -> None:
        """End what decodes."""
        self._decoders.close()

    def router(self) -> APIRouter:
        """Routes below /v1/ratings."""
        routes = APIRouter(prefix="/v1/ratings", include_in_schema=False)
        routes.add_api_route("", self._standing)
        routes.add_api_route("/pairs/{place}", self._pair)
        routes.add_api_route("/pictures/{key}", self._picture)
        routes.add_api_route("", self._save, methods=["POST"])
        return routes

    async def _standing(self, request: Request) -> Response:
        return JSONResponse((await asyncio.to_thread(self._ratings.standing, _rater(request)))._asdict())

    async def _pair(self, request: Request, place: str) -> Response:
        rater = _rater(request)
        with _of_pairs():
            key, prompt, verdict = await asyncio.to_thread(self._ratings.at, rater, _place(place))
        return JSONResponse({"pair": key, "prompt": prompt, **verdict._asdict()})

    async def _picture(self, key: str) -> Response:
        with _of_pairs():
            return _Picture(self._made(self._ratings.file_name(key)), self._places, self._timeout)

    async def _made(self, name: str) -> bytes:
        make, loop = self._decoders.picture, asyncio.get_running_loop()
        with _of_pairs():
            return await loop.run_in_executor(self._decoders.threads, make, name, self._ratings.root, _SIDE)

    async def _save(self, request: Request) -> Response:
        until = asyncio.get_running_loop().time() + self._timeout
        body = await arrived(request.body(), until, self._timeout)
        if len(body) > _LARGEST_BODY:
            raise too_large("the rating", _LARGEST_BODY)
        rater, key, verdict = _said(body)
        with _of_pairs():
            try:
                await asyncio.to_thread(self._ratings.save, rater, key, verdict)
            except RatingsFull as error:
                raise Refusal(409, "full", f"the rating was not saved: {error}") from None
            except OSError as error:
                raise Refusal(507, "not_saved", f"the rating was not saved: {error.strerror or error}") from None
        return JSONResponse((await asyncio.to_thread(self._ratings.standing, rater))._asdict())


class _Picture(Response):
    """Waits for a place, makes the picture, and holds the place until the last piece is sent: all of it in time."""

    media_type = "image/png"

    def __init__(self, making: Coroutine[Any, Any, bytes], places: asyncio.Semaphore, timeout: float) -> None:
        super().__init__(headers={"Cache-Control": "private, max-age=3600"})
        self._making, self._places, self._timeout = making, places, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False
        try:
            async with asyncio.timeout(self._timeout), self._places:
                content = await self._making
                has_begun = True
                self.headers["Content-Length"] = str(len(content))
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for at in range(0, len(content), _PIECE):  # a piece waits until its reader has taken those before it
                    piece, is_last = content[at : at + _PIECE], at + _PIECE >= len(content)
                    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        except TimeoutError:
            if not has_begun:
                raise late(self._timeout) from None
        finally:
            self._making.close()


@contextmanager
def _of_pairs() -> Iterator[None]:
    """Make refusals of what can go wrong with a pair and its picture."""
    try:
        yield
    except LookupError:
        raise Refusal(404, "no_pair", "there is no such pair") from None
    except ImageError:  # its message names the file, and with it most often the image model
        raise unprocessable("this picture cannot be read") from None
    except DecoderError:
        raise unavailable() from None


def _rater(request: Request) -> str:
    try:
        return checked_name(request.query_params.get("rater"))
    except ValueError as error:
        raise unprocessable(f"rater: {error}") from None


def _place(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise LookupError(text)
    return int(text)


def _said(body: bytes) -> tuple[str, str, PairRating]:
    try:
        said: Any = json.loads(body)
        rater, key = checked_name(said["rater"]), said["pair"]
        verdict = PairRating(said.get("alignment"), said.get("quality"))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise unprocessable(f"expected rater, pair, alignment and quality ({error})") from None
    if not isinstance(key, str) or any(part is not None and not _is_rating(part) for part in verdict):
        raise unprocessable("alignment and quality: expected whole numbers from 1 to 5")
    return rater, key, verdict


def _is_rating(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 5
