"""Asking a language model: what an engine takes and gives, and `ask`, which asks until there is a valid answer.

An engine gets a `ChatRequest` (text, images, a JSON Schema) and returns a `ChatReply`. Whoever wants more than text
calls `ask` with a function that reads the text: a reply that cannot be used is asked for again, with the error told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from dyneval.errors import UserError
from dyneval.tokens import contains_task_token

T = TypeVar("T")
Role = Literal["system", "user", "assistant"]

ENGINE_FAILURES = 20
"""Stop after this many failures of the engine in a row. One failure can be chance; 20 in a row mean that the server is
down, and going on would only write a reject for every remaining item."""
RAW_LIMIT = 20_000
"""Characters of an unusable reply that are kept in a rejects file."""
SAID_LIMIT = 4_000
"""Characters of what a server says about a failure that are passed on: it may repeat the whole request."""
TOLD_LIMIT = 4_000
"""Characters of an unusable reply that the model sees again when it is asked again."""
BROKEN_OFF = ("abort", "aborted", "cancelled", "error", "insufficient_system_resource", "safety", "recitation")
"""Reasons to finish by which servers say that the model had more to write."""
_ASK_AGAIN = """\
This reply cannot be used: {error}.
Reply again, with the whole JSON value and nothing else."""


class ChatError(UserError, RuntimeError):
    """The engine gave no reply, after its own retries; the message says why. It never holds a key."""


class Refused(ChatError):
    """This one request gets no reply, while others do; the message says why. It is no sign that the engine is gone."""


class Declined(ChatError):
    """A server answered that it does not do what it was asked; whether that lies in this request is not known yet."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, or the code in the body where the status says that all is well."""


class Unreachable(ChatError):
    """A server gave no answer after all retries; another one may."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status, 429 or 5xx; None where the connection was lost or the time was up."""


class EngineStopped(UserError, RuntimeError):
    """The engine is gone, no further request will be answered; the message says why. A run can be started again."""


class UnfitServer(UserError, RuntimeError):
    """A server does not do what its requests make no sense without, such as hold replies to schemas; it says why."""


class UnusableReply(ValueError):
    """A reply cannot be used; the message is fit to be told to the model that wrote it."""


class RejectedReply(ValueError):
    """No reply of all attempts was usable; `raw` is the last one, `attempts` their number."""

    def __init__(self, reason: str, raw: str, attempts: int) -> None:
        super().__init__(reason)
        self.raw = raw[:RAW_LIMIT].encode("utf-8", "replace").decode("utf-8")
        self.attempts = attempts


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
    refusal: str = ""
    """Why the model does not answer, where it says so apart from the text."""
    reasoning: str = ""
    """What a reasoning parser of the server took out of the text."""

    @property
    def obstacle(self) -> str | None:
        """Why the text is no answer, though the reply ended before its limit; None where it may be one."""
        if self.refusal:
            return f"the model refuses to answer: {self.refusal[:SAID_LIMIT]}"
        if "filter" in self.finish_reason:
            return f"the server's content filter ended the reply (finish_reason {self.finish_reason})"
        if self.finish_reason in BROKEN_OFF:
            return f"the server broke the reply off (finish_reason {self.finish_reason})"
        if self.reasoning and not self.text.strip():
            return (
                f"the reply is empty, all {len(self.reasoning)} characters of it stand in reasoning_content: start the "
                "server without a reasoning parser, or the model without thinking"
            )
        return None


class ChatEngine(Protocol):
    """Anything that answers chat requests; safe to call concurrently.

    What an engine finds out about its servers, and a summary should tell, it may have as `notes`, a list of texts.
    """

    name: str
    """Engine name as recorded in provenance: "openai", "vllm", "transformers", "oracle"."""
    model: str
    """Model name as recorded in provenance."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request. Raises ChatError when no reply can be had, Refused where only this one gets none."""
        ...

    async def close(self) -> None:
        """Release connections or memory."""
        ...


# ---------------------------------------------------------------------------------------------------------------------
# Asking until there is a valid answer.


@dataclass(kw_only=True, slots=True)
class TokenTally:
    """What has been asked so far in a run, and how often the engine has failed since it last replied."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unusable: dict[str, int] = field(default_factory=dict)
    """Unusable replies by task; most of them are made good by asking again."""
    failures_in_a_row: int = 0

    def taken(self) -> TokenTally:
        """What has been counted since this was last called; failures in a row go on counting here."""
        counted = replace(self)
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self.unusable = {}
        return counted

    def add(self, other: TokenTally) -> None:
        """Add the counts of another machine's engine; its failures in a row are its own."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        for task, number in other.unusable.items():
            self.unusable[task] = self.unusable.get(task, 0) + number


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Generic[T]):
    """A valid reply: its checked value, its text, and what it took to get it."""

    value: T
    raw: str
    attempts: int
    prompt_tokens: int
    completion_tokens: int


async def ask(
    engine: ChatEngine, request: ChatRequest, read: Callable[[str], T], attempts: int, tally: TokenTally
) -> Answer[T]:
    """Ask until `read` accepts a reply; each time with the last unusable reply and what is wrong with it.

    Args:
        engine: whom to ask.
        request: the question; its text must hold no task token, those belong to the student.
        read: makes the value from a reply's text, or raises UnusableReply.
        attempts: replies asked for at most, at least 1.
        tally: counts of the run, which are added to.

    Raises:
        RejectedReply: none of the attempts was usable.
        Refused: the engine gives no reply to this request, but to others.
        ChatError: it gave no reply.
        EngineStopped: it is dead, or that happened `ENGINE_FAILURES` times in a row.
        ImageError: the engine cannot use an image.
    """
    asked, prompt_tokens, completion_tokens = request, 0, 0
    for attempt in range(1, attempts + 1):
        reply = await _reply(engine, asked, tally)
        prompt_tokens += reply.prompt_tokens
        completion_tokens += reply.completion_tokens
        try:
            value = read(_whole(reply, request.max_tokens))
        except UnusableReply as error:
            problem = str(error)
            tally.unusable[request.task] = tally.unusable.get(request.task, 0) + 1
            asked = ask_again(request, reply.text, problem, attempt)
            continue
        return Answer(
            value=value,
            raw=reply.text,
            attempts=attempt,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
    raise RejectedReply(
        f"{attempts} replies could not be used, the last one: {problem}", reply.text or reply.reasoning, attempts
    )


async def _reply(engine: ChatEngine, request: ChatRequest, tally: TokenTally) -> ChatReply:
    """One reply, counted."""
    if any(contains_task_token(message.text) for message in request.messages):
        raise ValueError(f"{request.task}: a request to a language model holds a task token")
    try:
        reply = await engine.chat(request)
    except Refused:
        tally.failures_in_a_row = 0
        raise
    except ChatError as error:
        tally.failures_in_a_row += 1
        if tally.failures_in_a_row < ENGINE_FAILURES:
            raise
        raise EngineStopped(f"the engine failed {ENGINE_FAILURES} times in a row, last: {error}") from error
    tally.failures_in_a_row = 0
    tally.requests += 1
    tally.prompt_tokens += reply.prompt_tokens
    tally.completion_tokens += reply.completion_tokens
    return reply


def _whole(reply: ChatReply, max_tokens: int) -> str:
    """The text of a reply that ended by itself: one cut at the limit is a failure, even where it would parse."""
    if reply.finish_reason == "length":
        spent = ", all of them thinking (reasoning_content)" if reply.reasoning and not reply.text.strip() else ""
        raise UnusableReply(f"the reply was cut off at {max_tokens} tokens{spent} (finish_reason length); be shorter")
    if obstacle := reply.obstacle:
        raise UnusableReply(obstacle)
    if half := half_character(reply.text):
        raise UnusableReply(f"the reply holds {half}")
    return reply.text


def half_character(text: str) -> str | None:
    """What to call a lone surrogate in a text, which no file can hold; None where there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half a character (the lone surrogate \\u{ord(text[error.start]):04x})"
    return None


def ask_again(request: ChatRequest, reply: str, error: str, attempt: int) -> ChatRequest:
    """The same request with the unusable reply and what is wrong with it; another seed, a little warmer."""
    kept = split_marks(reply[:TOLD_LIMIT].encode("utf-8", "replace").decode("utf-8")) or "(empty)"
    turns = (
        Message(role="assistant", text=kept),
        Message(role="user", text=_ASK_AGAIN.format(error=split_marks(error))),
    )
    return replace(
        request, messages=(*request.messages, *turns), temperature=0.2 * attempt, seed=request.seed + attempt
    )


def split_marks(text: str) -> str:
    """Text in which no special token of a chat model can be read: `<|` and `|>` are split."""
    return text.replace("<|", "< |").replace("|>", "| >")
