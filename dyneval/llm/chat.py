"""Ask a language model: what an engine takes and returns, and `ask`, which asks until there is a valid answer.

An engine gets a `ChatRequest` (text, images, a JSON Schema) and returns a `ChatReply`. `ask` reads the text of a reply
with a function of the caller; if that raises `UnusableReply`, the model is asked again and told what is wrong. No reply
that could not be read ever becomes an annotation: the published code stored such replies with score 0 as training data.
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
# Characters of an unusable reply that are kept in a rejects file.
RAW_LIMIT = 20_000
SAID_LIMIT = 4_000
"""Characters that are kept of a server's words about a failure: it may repeat the whole request."""
# Characters of an unusable reply that the model sees when it is asked again.
TOLD_LIMIT = 4_000
# Values of finish_reason by which servers say that the model had more to write.
BROKEN_OFF = ("abort", "aborted", "cancelled", "error", "insufficient_system_resource", "safety", "recitation")
_ASK_AGAIN = """\
This reply cannot be used: {error}.
Reply again, with the whole JSON value and nothing else."""


class ChatError(UserError, RuntimeError):
    """The engine gave no reply, after its own retries; the message says why. It never holds a key.

    Attributes:
        status: HTTP status, or the code in the body of an error that came with status 200; None where there was no
            answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Refused(ChatError):
    """This one request gets no reply, while others do; the message says why. The engine itself still works."""


class Declined(ChatError):
    """A server refused a request; it is not known yet whether it refuses only this one or all of its kind."""


class Unreachable(ChatError):
    """A server gave no answer after all retries, or one that says it is overloaded; another server may give one."""


class EngineStopped(UserError, RuntimeError):
    """The engine will answer no further request; the message says why. The run can be started again and goes on."""


class UnfitServer(UserError, RuntimeError):
    """A server lacks what its requests need, such as replies that are held to a schema; the message says what."""


class UnusableReply(ValueError):
    """A reply cannot be used; the message is sent to the model that wrote it."""


class RejectedReply(ValueError):
    """No reply of all attempts was usable; `raw` is the last reply, `attempts` their number."""

    def __init__(self, reason: str, raw: str, attempts: int) -> None:
        super().__init__(reason)
        self.raw = raw[:RAW_LIMIT].encode("utf-8", "replace").decode("utf-8")
        self.attempts = attempts


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn of a conversation; its images come before its text."""

    # The order matters: requests about one image then begin alike, and a server with a prefix cache reads it once.
    role: Role
    text: str
    images: tuple[Path, ...] = ()
    data_urls: tuple[str, ...] = ()
    """Images that are not in files, sent as they are (engine openai)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """A request to a model.

    Attributes:
        task: label of the workflow, for logs and counts; it is not sent.
        messages: the conversation so far; the model writes the next turn.
        schema: JSON Schema that the reply must fit, or None for free text.
        max_tokens: limit on the reply; a reply that reaches it has finish_reason "length" and cannot be used.
        temperature: 0 for the most likely reply.
        seed: of the sampling, where the temperature is above 0.
        top_logprobs: alternatives wanted for each token of the reply (engine openai).
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
    """A token of a reply, and the log-probabilities of the alternatives at its place, by their texts."""

    text: str
    logprob: float
    alternatives: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatReply:
    """A reply, and the tokens that it cost (0 where the engine does not count them)."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tokens: tuple[TokenChoice, ...] = ()
    refusal: str = ""
    """Why the model does not answer, where the server sends that apart from the text."""
    reasoning: str = ""
    """What a reasoning parser of the server has taken out of the text."""

    @property
    def obstacle(self) -> str | None:
        """Why the text is not an answer, although the reply ended before its limit; None where it may be one."""
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
    """Answers chat requests; several may be under way at the same time.

    An engine may have `notes`, a list of texts about its servers, which go into the summary of a run.
    """

    name: str
    """Engine name as recorded in provenance: "openai", "vllm", "transformers", "oracle"."""
    model: str
    """Model name as recorded in provenance."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request. Raises ChatError when there is no reply, Refused where only this request gets none."""
        ...

    async def close(self) -> None:
        """Release connections or memory."""
        ...


# ---------------------------------------------------------------------------------------------------------------------
# Asking until there is a valid answer.


@dataclass(kw_only=True, slots=True)
class TokenTally:
    """Requests and tokens of a run so far, and how often the engine has failed since it last replied."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unusable: dict[str, int] = field(default_factory=dict)
    """Unusable replies by task; for most of them, asking again brings a usable one."""
    failures_in_a_row: int = 0

    def taken(self) -> TokenTally:
        """Take out what has been counted since the last call; failures in a row stay and are counted on."""
        counted = replace(self)
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self.unusable = {}
        return counted

    def add(self, other: TokenTally) -> None:
        """Add the counts of an engine on another machine, except its failures in a row."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        for task, number in other.unusable.items():
            self.unusable[task] = self.unusable.get(task, 0) + number


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Generic[T]):
    """A valid reply: its checked value, its text, and the attempts and tokens that it took."""

    value: T
    raw: str
    attempts: int
    prompt_tokens: int
    completion_tokens: int


async def ask(
    engine: ChatEngine, request: ChatRequest, read: Callable[[str], T], attempts: int, tally: TokenTally
) -> Answer[T]:
    """Ask until `read` accepts a reply; each new request holds the last unusable reply and what is wrong with it.

    Args:
        engine: the engine to ask.
        request: the first request; its texts must hold no task token, which belong to the student.
        read: makes the value from a reply's text, or raises UnusableReply.
        attempts: replies to ask for at most, 1 or more.
        tally: counts of the run, to which this request is added.

    Raises:
        RejectedReply: no attempt brought a usable reply.
        Refused: the engine gives no reply to this request, but to others.
        ChatError: the engine gave no reply.
        EngineStopped: the engine is gone, or has failed `ENGINE_FAILURES` times in a row.
        ImageError: the engine cannot use an image.
    """
    asked, prompt_tokens, completion_tokens = request, 0, 0
    for attempt in range(1, attempts + 1):
        reply = await _reply(engine, asked, tally)
        prompt_tokens += reply.prompt_tokens
        completion_tokens += reply.completion_tokens
        try:
            # Also where it would parse: a list that was cut after its third item can look complete.
            if reply.finish_reason == "length":
                is_thought = reply.reasoning and not reply.text.strip()
                spent = ", all of them thinking (reasoning_content)" if is_thought else ""
                cut = f"the reply was cut off at {request.max_tokens} tokens{spent}"
                raise UnusableReply(f"{cut} (finish_reason length); be shorter")
            if reply.obstacle:
                raise UnusableReply(reply.obstacle)
            if half := half_character(reply.text):
                raise UnusableReply(f"the reply holds {half}")
            value = read(reply.text)
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
    """Get one reply and count it; raises as `ask`."""
    # A task token in a request would be in the teacher's text, and from there in training data.
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


def half_character(text: str) -> str | None:
    """A name for the lone surrogate in a text, which no file in UTF-8 can hold; None where there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"half a character (the lone surrogate \\u{ord(text[error.start]):04x})"
    return None


def ask_again(request: ChatRequest, reply: str, error: str, attempt: int) -> ChatRequest:
    """The same request, followed by the unusable reply and what is wrong with it."""
    # Another seed and a higher temperature: a model that is asked the same in the same way writes the same.
    kept = split_marks(reply[:TOLD_LIMIT].encode("utf-8", "replace").decode("utf-8")) or "(empty)"
    turns = (
        Message(role="assistant", text=kept),
        Message(role="user", text=_ASK_AGAIN.format(error=split_marks(error))),
    )
    return replace(
        request, messages=(*request.messages, *turns), temperature=0.2 * attempt, seed=request.seed + attempt
    )


def split_marks(text: str) -> str:
    """The text with `<|` and `|>` split, so that no chat template reads a special token in it."""
    return text.replace("<|", "< |").replace("|>", "| >")
