"""The chat interface that the teacher workflows speak: a request with images and a JSON Schema in, text out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dyneval.errors import UserError

Role = Literal["system", "user", "assistant"]


class ChatError(UserError, RuntimeError):
    """The engine gave no reply, after its own retries; the message says why. It never holds a key."""


class Unreachable(ChatError):
    """A server gave no answer after all retries; another one may."""


class EngineStopped(UserError, RuntimeError):
    """The engine is dead: no further request can be answered. The message says why."""


class SchemaRefused(UserError, RuntimeError):
    """An engine does not hold replies to the schema of a request that makes no sense without; it says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn. Images come before the text, so that requests about one image share a prefix."""

    role: Role
    text: str
    images: tuple[Path, ...] = ()
    data_urls: tuple[str, ...] = ()
    """Images that are no files, sent as they are (engine openai)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """What is asked of a model.

    Attributes:
        task: label of the workflow, for logs and counts; it is not sent.
        schema: JSON Schema that the reply must fit, or None for free text.
        top_logprobs: alternatives wanted for each token of the reply (engine openai).
        max_tokens: limit on the reply; a reply that reaches it has finish_reason "length" and is a failure.
    """

    task: str
    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    max_tokens: int = 4096
    temperature: float = 0.0
    seed: int = 0
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """A token of a reply, and the log-probabilities of what might have stood there, by text."""

    text: str
    logprob: float
    alternatives: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """A reply and what it cost, in tokens (0 where the engine does not count)."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: tuple[TokenChoice, ...] = ()


class ChatEngine(Protocol):
    """Anything that answers chat requests; safe to call concurrently."""

    name: str
    """Engine name as recorded in provenance: "openai", "vllm", "transformers", "oracle"."""
    model: str
    """Model name as recorded in provenance."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request. Raises ChatError when no reply can be had."""
        ...

    async def close(self) -> None:
        """Release connections or memory."""
        ...
