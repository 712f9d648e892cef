"""One question to the teacher until there is a valid answer: ask, check, ask again with the error, or give up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dyneval.llm.chat import ChatEngine, ChatReply, ChatRequest
from dyneval.teacher.extract import ReplyError
from dyneval.teacher.prompts import ask_again
from dyneval.tokens import contains_task_token

logger = logging.getLogger(__name__)
T = TypeVar("T")

RAW_LIMIT = 20_000
"""Characters of an unusable reply that are kept in the rejects file."""


class RejectedReply(ValueError):
    """The teacher gave no valid reply in all attempts; `raw` is the last one, `attempts` their number."""

    def __init__(self, reason: str, raw: str, attempts: int) -> None:
        super().__init__(reason)
        self.raw = raw[:RAW_LIMIT].encode("utf-8", "replace").decode("utf-8")
        self.attempts = attempts


@dataclass(kw_only=True, slots=True)
class Tally:
    """What has been asked so far, over all workflows of a run."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unusable: dict[str, int] = field(default_factory=dict)
    """Unusable replies by task; most of them are made good by asking again."""

    def add(self, other: Tally) -> None:
        """Add the counts of another machine's teacher."""
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


@dataclass(kw_only=True, slots=True)
class Teacher:
    """An engine and how often it is asked before a reply counts as rejected."""

    engine: ChatEngine
    attempts: int = 3
    tally: Tally = field(default_factory=Tally)

    async def ask(self, request: ChatRequest, parse: Callable[[str], T]) -> Answer[T]:
        """Return the first reply that `parse` accepts.

        Raises:
            RejectedReply: none of the attempts was usable.
            ChatError: the engine gave no reply at all.
            ImageError: the engine cannot use the image.
        """
        first, prompt_tokens, completion_tokens = request, 0, 0
        for attempt in range(1, self.attempts + 1):
            reply = await self._send(request)
            prompt_tokens += reply.prompt_tokens
            completion_tokens += reply.completion_tokens
            try:
                value = parse(_whole(reply, request.max_tokens))
            except ReplyError as error:
                problem = str(error)
                self.tally.unusable[request.task] = self.tally.unusable.get(request.task, 0) + 1
                request = ask_again(first, reply.text, problem, attempt)
                continue
            return Answer(
                value=value,
                raw=reply.text,
                attempts=attempt,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
            )
        raise RejectedReply(f"{self.attempts} replies could not be used, the last one: {problem}", reply.text, attempt)

    async def _send(self, request: ChatRequest) -> ChatReply:
        if any(contains_task_token(message.text) for message in request.messages):
            raise ValueError(f"{request.task}: a request to the teacher holds a task token")
        reply = await self.engine.chat(request)
        self.tally.requests += 1
        self.tally.prompt_tokens += reply.prompt_tokens
        self.tally.completion_tokens += reply.completion_tokens
        return reply


def _whole(reply: ChatReply, max_tokens: int) -> str:
    """The text of a reply that ended by itself: one cut at the limit is a failure, even where it would parse."""
    if reply.finish_reason == "length":
        raise ReplyError(f"the reply was cut off at {max_tokens} tokens; be shorter")
    return reply.text
