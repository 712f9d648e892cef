"""Bodies of requests, read into pairs: JSON with base64, or multipart. Nothing is fetched, no path is opened."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from dyneval.errors import ImageError
from dyneval.files.image_forms import read_image
from dyneval.loaded_pairs import Pair
from dyneval.records import prompt_id
from dyneval.serve.refusal import Refusal, unprocessable

_Model = TypeVar("_Model", bound=BaseModel)
PairId = Annotated[str, Field(min_length=1, max_length=200, description="named in the result; default: made from both")]


class ScoreRequest(BaseModel):
    """One image and the prompt that it was made from."""

    model_config = ConfigDict(extra="forbid")
    image: Annotated[str, Field(description="the image file in base64", json_schema_extra={"format": "byte"})]
    prompt: Annotated[str, Field(description="the prompt; never cut, an over-long one is an error")]
    pair_id: PairId | None = None


class BatchRequest(BaseModel):
    """Several pairs, scored independently."""

    model_config = ConfigDict(extra="forbid")
    pairs: Annotated[list[ScoreRequest], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Upload:
    """A pair as it came: `image` is a file's bytes, or the same in base64; nothing is decoded yet."""

    image: bytes | str
    prompt: str
    pair_id: str | None

    def pair(self, max_pixels: int) -> Pair:
        """Decode the image. Raises Refusal (422); slow, so call it in a thread.

        A pair without a name is named after its prompt and the SHA-256 of its image.
        """
        try:
            content = self.image if isinstance(self.image, bytes) else base64.b64decode(self.image, validate=True)
            read = read_image(content, "image", max_pixels=max_pixels)
        except binascii.Error as error:
            raise unprocessable(f"image: not base64 ({error})") from None
        except ImageError as error:
            raise unprocessable(str(error)) from None
        pair_id = self.pair_id or f"{prompt_id(self.prompt)}-{str(read.file_hash)[:16]}"
        return Pair(pair_id=pair_id, prompt=self.prompt, image=read.image, image_name="image", file_hash=read.file_hash)


async def read_one(request: Request) -> Upload:
    """Read one pair from JSON or multipart. Raises Refusal (400, 415, 422)."""
    kind = _media_type(request)
    if kind == "multipart/form-data":
        return await _read_multipart(request)
    if kind != "application/json":
        raise Refusal(415, "media_type", f"expected application/json or multipart/form-data, found {kind or 'neither'}")
    return _upload(_parsed(ScoreRequest, await request.body()))


async def read_batch(request: Request) -> list[Upload]:
    """Read several pairs from JSON. Raises Refusal (415, 422)."""
    kind = _media_type(request)
    if kind != "application/json":
        raise Refusal(415, "media_type", f"expected application/json, found {kind or 'nothing'}")
    return [_upload(one) for one in _parsed(BatchRequest, await request.body()).pairs]


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(model: type[_Model], body: bytes) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        at = ".".join(map(str, first["loc"])) or "body"
        raise unprocessable(f"{at}: {first['msg']}") from None


def _upload(request: ScoreRequest) -> Upload:
    return Upload(request.image, request.prompt, request.pair_id)


async def _read_multipart(request: Request) -> Upload:
    async with request.form(max_files=1, max_fields=2, max_part_size=1 << 20) as form:
        image, prompt, pair_id = (form.get(name) for name in ("image", "prompt", "pair_id"))
        if not isinstance(image, UploadFile) or not isinstance(prompt, str):
            raise unprocessable("expected the file `image` and the field `prompt`")
        if not isinstance(pair_id, str | None) or (pair_id is not None and not 1 <= len(pair_id) <= 200):
            raise unprocessable("pair_id: expected 1 to 200 characters")
        return Upload(await image.read(), prompt, pair_id)
