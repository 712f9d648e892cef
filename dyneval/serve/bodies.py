"""Bodies of requests, read into pairs: JSON with base64, or multipart. Nothing is fetched, no path is opened.

Everything here is hostile input. Its sizes are bounded before it is read (`guard`), its image is decoded elsewhere
(`decoding`), and whatever is wrong with it becomes a `Refusal` that names the field. What is done here is done in the
event loop, so anything that takes 20 ms for a large body holds up all other requests for 20 ms.
"""

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
_MOST_VALUES = 200_000
"""Values in a trainer's body. As Python objects they take 20 times the memory that they take as JSON."""
PairId = Annotated[str, Meta(min_length=1, max_length=200, description="named in the result; default: made from both")]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One image and the prompt that it was made from, as /v1/score takes it."""

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
    """Several pairs, scored independently, as /v1/score/batch takes them."""

    pairs: Annotated[list[ScoreRequest], Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Upload:
    """A pair as it came; nothing is decoded yet.

    Attributes:
        image: a file's bytes, or the same in base64.
        prompt: the prompt, unchecked.
        pair_id: the client's name for the pair, 1 to 200 characters; None: it has none.
    """

    image: bytes | str
    prompt: str
    pair_id: str | None

    def check(self, max_prompt: int) -> None:
        """Check the prompt, which costs nothing, before the image is decoded.

        Args:
            max_prompt: bytes in UTF-8 that a prompt may have.

        Raises:
            Refusal: 422, the prompt is empty, no text, or too long.
        """
        try:
            size = len(checked_prompt(self.prompt).encode())
        except PromptError as error:
            raise unprocessable(str(error)) from None
        if size > max_prompt:
            raise unprocessable(f"the prompt has {size} bytes, at most {max_prompt} are read; prompts are never cut")

    def pair(self, decoders: Decoders) -> LoadedPair:
        """Decode the image; call this in a thread of `decoders`.

        Returns:
            The pair. One without a name is named after its prompt and the SHA-256 of its image, so that the same pair
            gets the same name again.

        Raises:
            Refusal: 422, the image cannot be used; 503, no image can be decoded at the moment.
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
    """Wait for what is read from a request.

    Args:
        reading: reads it.
        until: when it has to be there, on the clock of the event loop.
        seconds: how long that is after the request began, for the message.

    Raises:
        Refusal: 408, it was not there in time.
    """
    try:
        async with asyncio.timeout_at(until):
            return await reading
    except TimeoutError:
        raise Refusal(408, "timeout", f"the request did not arrive within {seconds:g} s") from None


async def read_uploads(request: Request, most: int | None = None) -> list[Upload]:
    """Read the pairs of a request.

    Args:
        request: to a route of scoring.
        most: pairs that a batch in JSON may have; None: the request has one pair, in JSON or multipart.

    Returns:
        The pairs in the order of the body, at least one.

    Raises:
        Refusal: 415, another media type; 422, the body is wrong, and the message says where.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if most is None and kind == "multipart/form-data":
        return [await _read_multipart(request)]
    if kind != "application/json":
        expected = "application/json or multipart/form-data" if most is None else "application/json"
        found = kind or ("neither" if most is None else "nothing")
        raise Refusal(415, "media_type", f"expected {expected}, found {found}")
    body = await request.body()
    try:
        if most is None:
            pairs = [msgspec.json.decode(body, type=ScoreRequest)]
        else:
            pairs = msgspec.json.decode(body, type=BatchRequest).pairs
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unprocessable(f"body: {error}") from None
    if most is not None and len(pairs) > most:
        raise unprocessable(f"pairs: {len(pairs)} are too many, at most {most}")
    # msgspec keeps the last of two equal keys. Python's own reader finds them, but reading megabytes of base64 a second
    # time would hold up all others. The texts that these pairs need have so many quotes: image and prompt, each with
    # its key, make 8, pair_id 4 more, and the key "pairs" 2. A body with no more than those repeats no key, however
    # the key is written; one with more, such as a prompt with quotes in it, is read again.
    least = sum(8 if pair.pair_id is None else 12 for pair in pairs) + 2 * (most is not None)
    if body.count(b'"') != least:
        json.loads(body, object_pairs_hook=_object_of_distinct_keys)
    return [Upload(pair.image, pair.prompt, pair.pair_id) for pair in pairs]


def loosely_parsed(model: type[_Model], body: bytes) -> _Model:
    """Read a trainer's body, which may have keys that `model` does not know.

    28 MB of base64 take 40 ms, twice what msgspec alone does, which keeps the last of two equal keys.

    Raises:
        Refusal: 422, the body is no JSON of that form.
    """
    # Counted in the bytes, before anything is built of them; inside of base64 none of the three occurs.
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise unprocessable(f"body: more than {_MOST_VALUES} values")
    try:
        return msgspec.convert(json.loads(body, object_pairs_hook=_object_of_distinct_keys), model)
    except (ValueError, RecursionError) as error:
        raise unprocessable(f"body: {error}") from None


def _object_of_distinct_keys(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON. Raises Refusal (422) where a key stands in it twice: nobody knows which one is meant."""
    found = dict(entries)
    if len(found) < len(entries):
        name, count = Counter(name for name, _ in entries).most_common(1)[0]
        raise unprocessable(f"body: {name} stands there {count} times, expected once")
    return found


async def _read_multipart(request: Request) -> Upload:
    """Read one pair from a form with the file `image`, the field `prompt` and perhaps `pair_id`. Raises Refusal."""
    _, options = parse_options_header(request.headers["content-type"])
    # Starlette decodes fields with the codec that the client names. Python's punycode takes minutes for a megabyte.
    if options.get(b"charset", b"utf-8").lower() != b"utf-8":
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
