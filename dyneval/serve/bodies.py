"""Bodies of requests, read into pairs: JSON with base64, or multipart. Nothing is fetched, no path is opened."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.requests import Request

from dyneval.errors import ImageError
from dyneval.loaded_pairs import LoadedPair, PromptError, checked_prompt
from dyneval.records import prompt_id
from dyneval.serve.decoding import DecoderError, Decoders
from dyneval.serve.refusal import Refusal, unavailable, unprocessable

_Model = TypeVar("_Model", bound=Struct)
_Read = TypeVar("_Read")
_MOST_PARTS = 200_000
PairId = Annotated[str, Meta(min_length=1, max_length=200, description="named in the result; default: made from both")]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One image and the prompt that it was made from."""

    image: Annotated[
        str,
        Meta(
            description="the image file in base64, also as a data URL, in lines, url-safe or without padding",
            extra_json_schema={"format": "byte"},
        ),
    ]
    prompt: Annotated[str, Meta(description="the prompt; never cut, an over-long one is an error")]
    pair_id: PairId | None = None


class BatchRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Several pairs, scored independently."""

    pairs: Annotated[list[ScoreRequest], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Upload:
    """A pair as it came: `image` is a file's bytes, or the same in base64; nothing is decoded yet."""

    image: bytes | str
    prompt: str
    pair_id: str | None

    def check(self, max_prompt: int) -> None:
        """Raises Refusal (422) where the prompt is none, or has more than `max_prompt` bytes."""
        try:
            size = len(checked_prompt(self.prompt).encode())
        except PromptError as error:
            raise unprocessable(str(error)) from None
        if size > max_prompt:
            raise unprocessable(f"the prompt has {size} bytes, at most {max_prompt} are read; prompts are never cut")

    def pair(self, decoders: Decoders) -> LoadedPair:
        """Decode the image, in a thread of `decoders`. Raises Refusal (422, 503).

        A pair without a name is named after its prompt and the SHA-256 of its image.
        """
        try:
            read = decoders.decode(self.image, "image")
        except ImageError as error:
            raise unprocessable(str(error)) from None
        except DecoderError:
            raise unavailable() from None
        pair_id = self.pair_id or f"{prompt_id(self.prompt)}-{str(read.file_hash)[:16]}"
        return LoadedPair(
            pair_id=pair_id, prompt=self.prompt, image=read.image, image_name="image", file_hash=read.file_hash
        )


async def arrived(reading: Awaitable[_Read], until: float, seconds: float) -> _Read:
    """What is read from a request that has to be there at `until`, `seconds` after it began. Raises Refusal (408)."""
    try:
        async with asyncio.timeout_at(until):
            return await reading
    except TimeoutError:
        raise Refusal(408, "timeout", f"the request did not arrive within {seconds:g} s") from None


async def read_one(request: Request) -> Upload:
    """Read one pair from JSON or multipart. Raises Refusal (400, 415, 422)."""
    kind = _media_type(request)
    if kind == "multipart/form-data":
        return await _read_multipart(request)
    if kind != "application/json":
        raise Refusal(415, "media_type", f"expected application/json or multipart/form-data, found {kind or 'neither'}")
    body = await request.body()
    found = _parsed(ScoreRequest, body)
    _check_keys(body, 2 * _texts(found))
    return _upload(found)


async def read_batch(request: Request, most: int) -> list[Upload]:
    """Read up to `most` pairs from JSON. Raises Refusal (415, 422)."""
    kind = _media_type(request)
    if kind != "application/json":
        raise Refusal(415, "media_type", f"expected application/json, found {kind or 'nothing'}")
    body = await request.body()
    found = _parsed(BatchRequest, body).pairs
    if len(found) > most:
        raise unprocessable(f"pairs: {len(found)} are too many, at most {most}")
    _check_keys(body, 2 + 2 * sum(map(_texts, found)))  # with that of `pairs`
    return [_upload(one) for one in found]


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(model: type[_Model], body: bytes) -> _Model:
    """The body as a model. Raises Refusal (422)."""
    try:
        return msgspec.json.decode(body, type=model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unprocessable(f"body: {error}") from None


def _texts(pair: ScoreRequest) -> int:
    """Texts that a pair has at least in JSON, keys among them."""
    return 4 if pair.pair_id is None else 6


def _check_keys(body: bytes, least: int) -> None:
    """Raises Refusal (422) where a key stands twice in an object, however it is written: msgspec takes the last one.

    With only the quotes that there are at `least` there is none; to read megabytes once more would hold up all others.
    """
    if body.count(b'"') != least:
        json.loads(body, object_pairs_hook=_once)


def _once(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises Refusal (422) where a key stands in it twice."""
    found = dict(entries)
    if len(found) < len(entries):
        name, count = Counter(name for name, _ in entries).most_common(1)[0]
        raise unprocessable(f"body: {name} stands there {count} times, expected once")
    return found


def loosely_parsed(model: type[_Model], body: bytes) -> _Model:
    """The body as a model that knows not all of its keys. Raises Refusal (422).

    28 MB of base64 take 40 ms, twice what msgspec alone does, which keeps the last of two equal keys.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_PARTS:  # as Python objects they would take 20 times the memory
        raise unprocessable(f"body: more than {_MOST_PARTS} values")
    try:
        return msgspec.convert(json.loads(body, object_pairs_hook=_once), model)
    except (ValueError, RecursionError) as error:
        raise unprocessable(f"body: {error}") from None


def _upload(request: ScoreRequest) -> Upload:
    return Upload(request.image, request.prompt, request.pair_id)


async def _read_multipart(request: Request) -> Upload:
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":  # some of Python's take minutes for a megabyte: punycode
        raise Refusal(415, "media_type", "charset: expected utf-8, or none")
    async with request.form(max_files=1, max_fields=2, max_part_size=1 << 20) as form:
        for name in form:
            if len(form.getlist(name)) > 1:
                raise unprocessable(f"{name}: stands there {len(form.getlist(name))} times, expected once")
        image, prompt, pair_id = (form.get(name) for name in ("image", "prompt", "pair_id"))
        if not isinstance(image, UploadFile) or not isinstance(prompt, str):
            raise unprocessable("expected the file `image` and the field `prompt`")
        if not isinstance(pair_id, str | None) or (pair_id is not None and not 1 <= len(pair_id) <= 200):
            raise unprocessable("pair_id: expected 1 to 200 characters")
        return Upload(await image.read(), prompt, pair_id)
