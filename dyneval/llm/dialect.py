"""The optional fields of a chat request that a server accepts, and their forms: its dialect.

Servers differ. Some refuse `response_format`, `seed` or `temperature`, some call the limit `max_completion_tokens`.
The words of a server about a refused request prove nothing: it may repeat the whole request, and it may mean this
prompt alone. So another dialect is used only when a request that is known to be good fails in the first one and is
answered in the other. Without this, one prompt that a server dislikes could switch the schema off for a whole run.
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
    """The optional fields of a request that a server accepts."""

    response_format: Format = "json_schema"
    limit: Limit = "max_tokens"
    seed: bool = True
    temperature: bool = True

    def body(self, model: str, request: ChatRequest, messages: list[Json]) -> Json:
        """The body of a request in this dialect, with the `messages` as the server takes them."""
        body: Json = {"model": model, "messages": messages, self.limit: request.max_tokens}
        if self.temperature:
            body["temperature"] = request.temperature
        if self.seed:
            body["seed"] = request.seed
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema is not None and self.response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif request.schema is not None and self.response_format == "json_schema":
            # OpenAI allows letters, digits, _ and - in the name.
            schema = {"name": request.task.replace(":", "_"), "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def difference(self, other: Dialect) -> str:
        """How this dialect differs from `other`, for people."""
        found = []
        if self.response_format != other.response_format:
            found.append(f"response_format {self.response_format} in place of {other.response_format}")
        if self.limit != other.limit:
            found.append(f"{self.limit} in place of {other.limit}")
        dropped = [name for name in ("seed", "temperature") if getattr(self, name) < getattr(other, name)]
        return ", ".join([*found, *(f"no {name}" for name in dropped)])

    def alternatives(self, words: str) -> Iterator[tuple[Dialect, bool]]:
        """Yield the other dialects to try, in the order of promise.

        Args:
            words: of the server about the refused request.

        Yields:
            A dialect, and whether `words` name every field that it changes. Those come first; among them, those that
            give up the least.
        """
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
    """True where the words of a server mention a field of `Dialect`."""
    return any(word in words.lower() for word in _WORDS[field])


_FORMATS: tuple[Format, ...] = get_args(Format)
_LIMITS: tuple[Limit, ...] = get_args(Limit)
# What it costs to change a field, for the order of dialects alone. The limit means the same under both names, while
# replies without a schema are worse: no format at all is dearer than all other changes together.
_PRICES = {"limit": 1, "seed": 2, "temperature": 3, "response_format": 8}
_NO_FORMAT = 8
# What servers call the fields when they refuse them.
_WORDS = {
    "response_format": (
        "response_format", "json_schema", "json_object", "structured", "guided", "grammar", "schema", "output",
    ),
    "limit": ("max_tokens", "max_completion_tokens"),
    "seed": ("seed",),
    "temperature": ("temperature",),
}  # fmt: skip


def own_fields(given: tuple[str, ...]) -> Json:
    """Read the fields of a request that the user sets.

    Args:
        given: "KEY=VALUE" each; a value that is not JSON is a text.

    Raises:
        SettingError: there is no "=", or the field is one that DynEval must set itself.
    """
    found: Json = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SettingError(f"--server-option {text}: expected KEY=VALUE, such as top_k=20 or seed=null")
        if name in ("messages", "model", "stream", "n"):  # the request itself, and the form in which a reply is read
            raise SettingError(f"--server-option {text}: {name} cannot be set by hand")
        try:
            found[name] = orjson.loads(value)
        except ValueError:
            found[name] = value
    return found


PROBE_TOKENS = 1024
# The word JSON must be in it: OpenAI refuses the response_format json_object without.
_KNOWN_GOOD = '"a red apple on a white plate (a test of the connection: reply with the shortest JSON that is allowed)"'


def known_good(request: ChatRequest, *, is_short: bool) -> ChatRequest:
    """Make a request that no server should refuse, in the form of `request` and with its instructions.

    Args:
        request: the request that was refused.
        is_short: ask for no more than `PROBE_TOKENS`. The probe then also tells a server that only finds the limit of
            this request too high from one that refuses its form.
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
