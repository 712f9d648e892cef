"""What a server takes of a request: the optional fields that it knows, and in which form.

Servers differ. Some refuse `response_format`, `seed` or `temperature`, some call the limit `max_completion_tokens`.
What a server says about a refused request is no proof: it may repeat the whole request, and it may mean this prompt
alone. So another dialect is taken only when a request that is known to be good fails in the one and is answered in the
other.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, Literal, get_args

import orjson

from dyneval.errors import SettingError
from dyneval.llm.chat import ChatRequest, Message

Json = dict[str, Any]
Format = Literal["json_schema", "json_object", "none"]
Limit = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The optional fields of a request, as a server takes them."""

    response_format: Format = "json_schema"
    limit: Limit = "max_tokens"
    seed: bool = True
    temperature: bool = True

    def body(self, model: str, request: ChatRequest, messages: list[Json]) -> Json:
        """The request as a server of this dialect takes it."""
        body: Json = {"model": model, "messages": messages, self.limit: request.max_tokens}
        if self.temperature:
            body["temperature"] = request.temperature
        if self.seed:
            body["seed"] = request.seed
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema is not None and self.response_format != "none":
            body["response_format"] = _response_format(request, self.response_format)
        return body

    def difference(self, other: Dialect) -> str:
        """What this dialect does otherwise than `other`, for people."""
        found = []
        if self.response_format != other.response_format:
            found.append(f"response_format {self.response_format} in place of {other.response_format}")
        if self.limit != other.limit:
            found.append(f"{self.limit} in place of {other.limit}")
        dropped = [name for name in ("seed", "temperature") if getattr(self, name) < getattr(other, name)]
        return ", ".join([*found, *(f"no {name}" for name in dropped)])

    def alternatives(self, words: str) -> Iterator[tuple[Dialect, bool]]:
        """Other dialects, those first that give up the least; each with whether `words` name all that it changes."""
        found: list[tuple[bool, int, Dialect]] = []
        formats = _FORMATS[_FORMATS.index(self.response_format) :]
        seeds, temperatures = ((True, False) if flag else (False,) for flag in (self.seed, self.temperature))
        for response_format, limit, seed, temperature in product(formats, _LIMITS, seeds, temperatures):
            other = Dialect(response_format=response_format, limit=limit, seed=seed, temperature=temperature)
            changed = [name for name in _WORDS if getattr(other, name) != getattr(self, name)]
            if changed:
                is_named = all(names(field, words) for field in changed)
                price = sum(_PRICES[name] for name in changed) + _NO_FORMAT * (response_format == "none")
                found.append((not is_named, price, other))
        for is_unnamed, _, other in sorted(found, key=lambda one: one[:2]):
            yield other, not is_unnamed


def names(field: str, words: str) -> bool:
    """True where the words of a server speak of a field of `Dialect`."""
    return any(word in words.lower() for word in _WORDS[field])


_FORMATS: tuple[Format, ...] = get_args(Format)
_LIMITS: tuple[Limit, ...] = get_args(Limit)
_PRICES = {"limit": 1, "seed": 2, "temperature": 3, "response_format": 8}
"""What it costs to give up a field. The limit has one meaning under both names; without a schema replies are worse."""
_NO_FORMAT = 8
_WORDS = {
    "response_format": (
        "response_format", "json_schema", "json_object", "structured", "guided", "grammar", "schema", "output",
    ),
    "limit": ("max_tokens", "max_completion_tokens"),
    "seed": ("seed",),
    "temperature": ("temperature",),
}  # fmt: skip
"""What servers call the fields when they refuse them."""


def _response_format(request: ChatRequest, asked: str) -> Json:
    if asked == "json_object":
        return {"type": "json_object"}
    schema = {"name": request.task.replace(":", "_"), "schema": request.schema, "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def own_fields(given: tuple[str, ...]) -> Json:
    """Fields of a request that the user sets, from "KEY=VALUE": JSON, or a text as it is.

    Raises SettingError: no "=", or a field that is not the user's to set.
    """
    found: Json = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SettingError(f"--server-option {text}: expected KEY=VALUE, such as top_k=20 or seed=null")
        if name in ("messages", "model", "stream", "n"):
            raise SettingError(f"--server-option {text}: {name} cannot be set by hand")
        try:
            found[name] = orjson.loads(value)
        except ValueError:
            found[name] = value
    return found


PROBE_TOKENS = 1024
_KNOWN_GOOD = '"a red apple on a white plate (a test of the connection: reply with the shortest JSON that is allowed)"'
"""The word JSON must be in it: OpenAI refuses the response_format json_object without."""


def known_good(request: ChatRequest, *, is_short: bool) -> ChatRequest:
    """A request in the form of `request`, with its instructions, about nothing that a server could object to.

    `is_short`: the reply is not given more than `PROBE_TOKENS`, so that a limit which only this request has is no fault
    of its form.
    """
    has_image = any(message.images or message.data_urls for message in request.messages)
    instructions = [message for message in request.messages if message.role == "system"]
    message = Message(role="user", text=_KNOWN_GOOD, data_urls=(_plain_picture(),) if has_image else ())
    limit = min(request.max_tokens, PROBE_TOKENS) if is_short else request.max_tokens
    return replace(request, messages=(*instructions, message), max_tokens=limit)


@cache
def _plain_picture() -> str:
    """A red square on white, 64x64 pixels, as a data URL."""
    from PIL import Image

    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((200, 20, 20), (16, 16, 48, 48))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
