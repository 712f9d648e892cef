"""What an OpenAI-compatible server replies, read into typed objects. Optional fields may be missing or null."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from dyneval.llm.chat import ChatError, ChatReply, TokenChoice


class _Message(Struct):
    content: str | None = None


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
    """The first choice of a chat completion. Raises ChatError, naming the server, where `text` is none."""
    try:
        completion = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ChatError(f"{server}: the reply is no chat completion ({error})") from None
    if not completion.choices:
        raise ChatError(f"{server}: the reply is no chat completion (no choices)")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    tokens = choice.logprobs.content if choice.logprobs else None
    return ChatReply(
        text=choice.message.content or "",
        finish_reason=choice.finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        tokens=tuple(
            TokenChoice(one.token, one.logprob, {other.token: other.logprob for other in one.top_logprobs or ()})
            for one in tokens or ()
        ),
    )
