"""What goes over the wire to an OpenAI-compatible server, and what comes back.

A request holds pictures of megabytes that are JSON already: it is sent without copying them. A reply is read into typed
objects; optional fields of it may be missing or null.
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
    """JSON of a value in which `bytes` are JSON already: an HTTP client takes it piece by piece, as often as it must.

    To join the pieces first would copy every image once more for each request and each retry.
    """

    def __init__(self, value: Any) -> None:
        """Encode `value`. Raises TypeError where something in it has no JSON form."""
        ready: list[bytes] = []
        mark = secrets.token_hex(16)  # nobody who writes a prompt can know it

        def default(part: object) -> str:
            if not isinstance(part, bytes):
                raise TypeError
            ready.append(part)
            return mark

        first, *others = orjson.dumps(value, default=default).split(f'"{mark}"'.encode("ascii"))
        self._pieces = [first, *(piece for pair in zip(ready, others, strict=True) for piece in pair)]

    def __len__(self) -> int:
        """Bytes."""
        return sum(map(len, self._pieces))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces, each time from the first."""
        for piece in self._pieces:
            yield piece

    # The openai package repeats a request only if it can rewind its body as a file; this one always begins anew.

    def read(self) -> bytes:
        """All of it in one piece."""
        return b"".join(self._pieces)

    def seekable(self) -> bool:
        """It can be sent again."""
        return True

    def tell(self) -> int:
        """Where the next sending begins."""
        return 0

    def seek(self, position: int) -> int:
        """Go back to the begin, where it is anyway."""
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
_LENGTH = ("model_length", "max_tokens", "max_length")
"""What some servers call the finish_reason "length"."""
_DATA_URL = re.compile(r"(data:[\w./+-]{1,60};base64,)[A-Za-z0-9+/=]{64,}")


def to_reply(text: str, server: str) -> ChatReply:
    """The first choice of a chat completion.

    Raises:
        ChatError: `text` is none; the message names `server` and says what it sent instead.
        Unreachable: it says that the server, or one behind it, is overloaded or broken.
        Declined: it says that the server does not do what it was asked.
    """
    try:
        completion = _completion(text)
    except (ValueError, RecursionError) as error:
        raise _no_completion(text, server, str(error)) from None
    if not completion.choices:
        raise _no_completion(text, server, "no choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    if choice.error:  # of a server behind this one, in the middle of the reply
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


def _completion(text: str) -> _Completion:
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError):
        # Half a character, written as an escape, is no fault of the server: who reads the reply says what it is.
        if "\\ud" not in text.lower():
            raise
        return msgspec.convert(json.loads(text), _Completion)


def _no_completion(text: str, server: str, problem: str) -> ChatError:
    """What a body with status 200 says instead of a completion: gateways wrap the errors of servers behind them."""
    value = _json(text)
    if not (value.get("error") or value.get("object") == "error"):
        return ChatError(f"{server}: the reply is no chat completion ({problem}): {shortened(text)}")
    code, kind = str(_inner(value).get("code") or ""), str(_inner(value).get("type") or "")
    # One that does not say whose fault it is may pass: it is asked again, as after a status 500.
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else 400 if "invalid" in kind + code else 500
    message = f"{server}: HTTP 200, but the body is an error {code}: {shortened(words_of(text))}"
    return Unreachable(message, status) if status == 429 or status >= 500 else Declined(message, status)


def shortened(text: str) -> str:
    """What a server said, at most `SAID_LIMIT` characters: pictures that it repeats are left out, then the middle."""
    text = _DATA_URL.sub(r"\1...", text)
    half = SAID_LIMIT // 2
    return text if len(text) <= SAID_LIMIT else f"{text[:half]} [...] {text[-half:]}"


_USUAL = ("message", "type", "param", "code", "status", "object")
"""What errors hold beside words of their own."""


def words_of(text: str) -> str:
    """What the body of an error says, in any of the forms that servers have; all of it where it has another form.

    {"error": {"message": "..."}} OpenAI and most, {"error": "..."} Ollama and others, {"detail": ...} FastAPI,
    {"object": "error", "message": "..."} older vLLM. What else an error holds, such as the words of a server behind a
    gateway, follows.
    """
    value = _json(text)
    inner = _inner(value)
    message = inner.get("message")
    if message and isinstance(message, str):
        more = {name: part for name, part in inner.items() if part and name not in _USUAL} if inner is not value else {}
        return message + (f" {orjson.dumps(more).decode()}" if more else "")
    found = message or value.get("error") or value.get("detail") or text
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def _json(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _inner(value: dict[str, Any]) -> dict[str, Any]:
    error = value.get("error")
    return error if isinstance(error, dict) else value
