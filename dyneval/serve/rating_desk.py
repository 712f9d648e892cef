"""The routes of the page on which people rate pairs: where they stand, what they see, what they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dyneval.errors import ImageError
from dyneval.serve.ratings import Ratings, Verdict, checked_name
from dyneval.serve.refusal import Refusal, unprocessable

_LARGEST_BODY = 4096
"""Bytes of a verdict."""
_PICTURES = 2
"""Pictures that are decoded at a time."""


def router(ratings: Ratings, timeout: float) -> APIRouter:
    """Routes below /v1/ratings.

    Args:
        ratings: pairs and verdicts, open.
        timeout: seconds that a verdict may take to arrive.
    """
    routes = APIRouter(prefix="/v1/ratings", include_in_schema=False)
    decoding = asyncio.Semaphore(_PICTURES)

    @routes.get("")
    async def standing(request: Request) -> Response:
        return JSONResponse((await asyncio.to_thread(ratings.standing, _rater(request)))._asdict())

    @routes.get("/pairs/{place}")
    async def pair(request: Request, place: str) -> Response:
        rater = _rater(request)
        with _of_pairs():
            key, prompt, verdict = await asyncio.to_thread(ratings.at, rater, _place(place))
        return JSONResponse({"pair": key, "prompt": prompt, **verdict._asdict()})

    @routes.get("/pictures/{key}")
    async def picture(key: str) -> Response:
        with _of_pairs():
            async with decoding:
                content = await asyncio.to_thread(ratings.picture, key)
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @routes.post("")
    async def save(request: Request) -> Response:
        rater, key, verdict = _said(await _body(request, timeout))
        with _of_pairs():
            await asyncio.to_thread(ratings.save, rater, key, verdict)
        return JSONResponse((await asyncio.to_thread(ratings.standing, rater))._asdict())

    return routes


@contextmanager
def _of_pairs() -> Iterator[None]:
    """Make refusals of what can go wrong with a pair, its picture and the file of ratings."""
    try:
        yield
    except LookupError:
        raise Refusal(404, "no_pair", "there is no such pair") from None
    except ImageError:  # its message names the file, and with it most often the image model
        raise unprocessable("this picture cannot be read") from None
    except OSError as error:
        raise Refusal(507, "not_saved", f"the rating was not saved: {error.strerror or error}") from None


def _rater(request: Request) -> str:
    try:
        return checked_name(request.query_params.get("rater"))
    except ValueError as error:
        raise unprocessable(f"rater: {error}") from None


def _place(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise LookupError(text)
    return int(text)


async def _body(request: Request, timeout: float) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(timeout):
            async for part in request.stream():
                body += part
                if len(body) > _LARGEST_BODY:
                    message = f"a rating has at most {_LARGEST_BODY} bytes"
                    raise Refusal(413, "too_large", message, {"Connection": "close"})
    except TimeoutError:
        raise Refusal(408, "timeout", f"the request did not arrive within {timeout:g} s") from None
    return body


def _said(body: bytes) -> tuple[str, str, Verdict]:
    try:
        said: Any = json.loads(body)
        rater, key = checked_name(said["rater"]), said["pair"]
        verdict = Verdict(said.get("alignment"), said.get("quality"))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise unprocessable(f"expected rater, pair, alignment and quality ({error})") from None
    if not isinstance(key, str) or any(part is not None and not _is_rating(part) for part in verdict):
        raise unprocessable("alignment and quality: expected whole numbers from 1 to 5")
    return rater, key, verdict


def _is_rating(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 5
