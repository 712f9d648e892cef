"""Encode requests to an OpenAI-compatible server, and read its replies and errors.

A request holds images of megabytes that are JSON already; they are sent without being copied. A reply is read into
typed objects, whose optional fields may be missing or null. Gateways report errors in many forms, some with status 200:
one that was read as a reply would become an empty answer.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from dyneval.llm.chat import SAID_LIMIT, ChatError, ChatReply, Declined, TokenChoice, Unreachable


class JsonBody:
    """JSON of a value in which `bytes` are JSON already; an HTTP client sends it piece by piece, as often as it must.

    Joining the pieces first would copy every image once more for each request and each retry.
    """

    def __init__(self, value: Any) -> None:
        """Encode `value`. Raises TypeError where something in it has no JSON form."""
        ready: list[bytes] = []
        # Stands in for the bytes while the rest is encoded. Random, so that no prompt can contain it.
        mark = secrets.token_hex(16)

        def default(part: object) -> str:
            if not isinstance(part, bytes):
                raise TypeError
            ready.append(part)
            return mark

        first, *others = orjson.dumps(value, default=default).split(f'"{mark}"'.encode("ascii"))
        self._pieces = [first, *(piece for pair in zip(ready, others, strict=True) for piece in pair)]

    def __len__(self) -> int:
        """Number of bytes, for the Content-Length."""
        return sum(map(len, self._pieces))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces, each time from the first."""
        for piece in self._pieces:
            yield piece

    # The openai package repeats a request only if its body can be rewound like a file. This one always begins anew.

    def read(self) -> bytes:
        """All of it in one piece."""
        return b"".join(self._pieces)

    def seekable(self) -> bool:
        """True: it can be sent again."""
        return True

    def tell(self) -> int:
        """Where the next sending begins, which is always 0."""
        return 0

    def seek(self, position: int) -> int:
        """Do nothing: the next sending begins at 0 anyway."""
        return 0


class _Message(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Alternative(Struct):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(Struct):
    content: list[_Token] | None = None


class _Choice(Struct):
    message: _Message
    error: Any = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Completion)
# What some servers call the finish_reason "length".
_LENGTH = ("model_length", "max_tokens", "max_length")
_DATA_URL = re.compile(r"(data:[\w./+-]{1,60};base64,)[A-Za-z0-9+/=]{64,}")


def to_reply(text: str, server: str) -> ChatReply:
    """Read the first choice of a chat completion.

    Args:
        text: body of an answer with status 200.
        server: what messages call the server.

    Raises:
        ChatError: `text` is not a chat completion; the message says what the server sent instead.
        Unreachable: `text` is an error of a server that is overloaded or broken, or of one behind it.
        Declined: `text` is an error of a server that refuses the request.
    """
    try:
        try:
            completion = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeError):
            # Half a character, written as an escape, is no fault of the server; the reader of the reply rejects it.
            # The decoder refuses it, the standard library does not.
            if "\\ud" not in text.lower():
                raise
            completion = msgspec.convert(json.loads(text), _Completion)
    except (ValueError, RecursionError) as error:
        raise _no_completion(text, server, str(error)) from None
    if not completion.choices:
        raise _no_completion(text, server, "no choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    if choice.error:  # a server behind this one failed in the middle of the reply
        raise _no_completion(orjson.dumps({"error": choice.error}).decode(), server, "")
    message, tokens = choice.message, choice.logprobs.content if choice.logprobs else None
    finish = (choice.finish_reason or "stop").lower()
    return ChatReply(
        text=message.content or "",
        finish_reason="length" if finish in _LENGTH else finish,
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        tokens=tuple(
            TokenChoice(one.token, one.logprob, {other.token: other.logprob for other in one.top_logprobs or ()})
            for one in tokens or ()
        ),
        refusal=message.refusal or "",
        reasoning=message.reasoning_content or message.reasoning or "",
    )


def _no_completion(text: str, server: str, problem: str) -> ChatError:
    """The error for a body with status 200 that is not a completion: gateways wrap errors of servers behind them."""
    value, inner = _error_in(text)
    if not (value.get("error") or value.get("object") == "error"):
        return ChatError(f"{server}: the reply is no chat completion ({problem}): {shortened(text)}")
    code, kind = str(inner.get("code") or ""), str(inner.get("type") or "")
    # An error that does not say whose fault it is may be gone the next time: it is treated as a status 500.
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else 400 if "invalid" in kind + code else 500
    message = f"{server}: HTTP 200, but the body is an error {code}: {shortened(words_of(text))}"
    return Unreachable(message, status) if status == 429 or status >= 500 else Declined(message, status)


def shortened(text: str) -> str:
    """Cut the words of a server to `SAID_LIMIT` characters: first the images that it repeats, then the middle."""
    text = _DATA_URL.sub(r"\1...", text)
    half = SAID_LIMIT // 2
    return text if len(text) <= SAID_LIMIT else f"{text[:half]} [...] {text[-half:]}"


# The fields of an error that hold no further words.
_USUAL = ("message", "type", "param", "code", "status", "object")


def words_of(text: str) -> str:
    """The message in the body of an error, and behind it what else the error says; all of a body in another form."""
    value, inner = _error_in(text)
    # {"error": {"message": "..."}} OpenAI and most, {"error": "..."} Ollama and others, {"detail": ...} FastAPI,
    # {"object": "error", "message": "..."} older vLLM. Gateways add the words of the server behind them.
    message = inner.get("message")
    if message and isinstance(message, str):
        more = {name: part for name, part in inner.items() if part and name not in _USUAL} if inner is not value else {}
        return message + (f" {orjson.dumps(more).decode()}" if more else "")
    found = message or value.get("error") or value.get("detail") or text
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def _error_in(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A body as a JSON object, {} if it is none, and the object in it that describes the error, else the body again."""
    try:
        value = orjson.loads(text)
    except ValueError:
        value = None
    body = value if isinstance(value, dict) else {}
    return body, body["error"] if isinstance(body.get("error"), dict) else body
