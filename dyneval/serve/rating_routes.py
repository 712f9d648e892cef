"""The routes of the page on which people rate pairs: how far they are, what they see, what they say.

Raters are strangers like all clients, so what they send is bounded and checked, pictures are decoded away from the
server, and no answer names a file: file names often hold the image model's name, and raters must not know it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import partial
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
"""Bytes of a rating."""
_PICTURES = 8
"""Pictures that are being made and sent at a time: PNGs of up to 13 MB."""
_PIECE = 1 << 16
"""Bytes of a picture that are sent at a time."""
_SIDE = 2048
"""Longest side of a picture as raters see it, in pixels."""
_DECODING = 15
"""Seconds of computing: pictures have up to four times as many pixels as those of requests."""


class RatingRoutes:
    """Answers raters; their pictures are decoded in processes of their own, and each is sent in time or not at all.

    Attributes:
        decoders: those processes; whoever ends the server closes them.
    """

    def __init__(self, ratings: Ratings, timeout: float) -> None:
        """Get ready.

        Args:
            ratings: pairs and their ratings, open.
            timeout: seconds from a request's arrival to the end of its answer.
        """
        self._ratings = ratings
        self._timeout = timeout
        self.decoders = Decoders(MAX_PIXELS, _DECODING)
        self._places = asyncio.Semaphore(_PICTURES)

    def router(self) -> APIRouter:
        """Return the routes below /v1/ratings, which only the page uses."""
        routes = APIRouter(prefix="/v1/ratings", include_in_schema=False)
        routes.add_api_route("", self._progress)
        routes.add_api_route("/pairs/{place}", self._pair)
        routes.add_api_route("/pictures/{key}", self._picture)
        routes.add_api_route("", self._save, methods=["POST"])
        return routes

    async def _progress(self, request: Request) -> Response:
        # In a thread, here and below: of 250,000 pairs a new rater's order takes 0.6 s to make.
        return JSONResponse((await asyncio.to_thread(self._ratings.standing, _rater(request)))._asdict())

    async def _pair(self, request: Request, place: str) -> Response:
        rater = _rater(request)
        with _refusals_of_pairs():
            if not place.isdecimal() or len(place) > 9:
                raise LookupError(place)
            key, prompt, rating = await asyncio.to_thread(self._ratings.at, rater, int(place))
        return JSONResponse({"pair": key, "prompt": prompt, **rating._asdict()})

    async def _picture(self, key: str) -> Response:
        with _refusals_of_pairs():
            make = partial(self.decoders.picture, self._ratings.file_name(key), self._ratings.root, _SIDE)
        return _Picture(make, self.decoders.threads, self._places, self._timeout)

    async def _save(self, request: Request) -> Response:
        until = asyncio.get_running_loop().time() + self._timeout
        body = await arrived(request.body(), until, self._timeout)
        if len(body) > _LARGEST_BODY:
            raise too_large("the rating", _LARGEST_BODY)
        try:
            said: Any = json.loads(body)
            rater, key = checked_name(said["rater"]), said["pair"]
            rating = PairRating(said.get("alignment"), said.get("quality"))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise unprocessable(f"expected rater, pair, alignment and quality ({error})") from None
        # By type, since True is an int for Python.
        wrong = any(part is not None and (type(part) is not int or not 1 <= part <= 5) for part in rating)
        if wrong or not isinstance(key, str):
            raise unprocessable("alignment and quality: expected whole numbers from 1 to 5")
        with _refusals_of_pairs():
            try:
                await asyncio.to_thread(self._ratings.save, rater, key, rating)
            except RatingsFull as error:  # 409: the page sends a rating again at 5xx, which here would go on for ever
                raise Refusal(409, "full", f"the rating was not saved: {error}") from None
            except OSError as error:
                raise Refusal(507, "not_saved", f"the rating was not saved: {error.strerror or error}") from None
        return JSONResponse((await asyncio.to_thread(self._ratings.standing, rater))._asdict())


class _Picture(Response):
    """Waits for a place, makes the picture, and holds the place until the last piece is sent: all of it in time.

    A reader who takes nothing would otherwise hold 13 MB for as long as it likes.
    """

    media_type = "image/png"

    def __init__(self, make: Callable[[], bytes], threads: Executor, places: asyncio.Semaphore, timeout: float) -> None:
        super().__init__(headers={"Cache-Control": "private, max-age=3600"})
        self._make, self._threads, self._places, self._timeout = make, threads, places, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False
        try:
            async with asyncio.timeout(self._timeout), self._places:
                with _refusals_of_pairs():
                    content = await asyncio.get_running_loop().run_in_executor(self._threads, self._make)
                has_begun = True
                self.headers["Content-Length"] = str(len(content))
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                # A piece waits until its reader has taken those before it, so the deadline holds for reading, too.
                for at in range(0, len(content), _PIECE):
                    piece, is_last = content[at : at + _PIECE], at + _PIECE >= len(content)
                    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        except TimeoutError:
            if not has_begun:
                raise late(self._timeout) from None


@contextmanager
def _refusals_of_pairs() -> Iterator[None]:
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
    """Return the rater's name. Raises Refusal (422)."""
    try:
        return checked_name(request.query_params.get("rater"))
    except ValueError as error:
        raise unprocessable(f"rater: {error}") from None
