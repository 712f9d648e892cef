"""What goes over the wire to an OpenAI-compatible server, and what comes back.

A request holds pictures of megabytes that are JSON already: it is sent without copying them. A reply is read into typed
objects; optional fields of it may be missing or null.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from dyneval.llm.chat import SAID_LIMIT, ChatError, ChatReply, TokenChoice, Unreachable


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
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Completion)


def to_reply(text: str, server: str) -> ChatReply:
    """The first choice of a chat completion.

    Raises:
        ChatError: `text` is none; the message names `server` and says what it sent instead.
        Unreachable: it says that the server, or one behind it, is overloaded or broken.
    """
    try:
        completion = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise _no_completion(text, server, str(error)) from None
    if not completion.choices:
        raise _no_completion(text, server, "no choices")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    message, tokens = choice.message, choice.logprobs.content if choice.logprobs else None
    return ChatReply(
        text=message.content or "",
        finish_reason=choice.finish_reason or "stop",
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
    """What a body with status 200 says instead of a completion: gateways wrap the errors of servers behind them."""
    value = _json(text)
    if not (value.get("error") or value.get("object") == "error"):
        return ChatError(f"{server}: the reply is no chat completion ({problem}): {text[:SAID_LIMIT]}")
    code = str(_inner(value).get("code") or "")
    kind = Unreachable if code == "429" or (len(code) == 3 and code.startswith("5")) else ChatError
    return kind(f"{server}: HTTP 200, but the body is an error {code}: {words_of(text)[:SAID_LIMIT]}")


def words_of(text: str) -> str:
    """What the body of an error says, in any of the forms that servers have; all of it where it has another form.

    {"error": {"message": "..."}} OpenAI and most, {"error": "..."} Ollama and others, {"detail": ...} FastAPI,
    {"object": "error", "message": "..."} older vLLM.
    """
    value = _json(text)
    found = _inner(value).get("message") or value.get("error") or value.get("detail") or text
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
