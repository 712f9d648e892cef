"""The teacher: an engine, how often it is asked for one answer, and what it has cost so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from dyneval.llm.chat import Answer, ChatEngine, ChatRequest, TokenTally, ask

T = TypeVar("T")


@dataclass(kw_only=True, slots=True)
class Teacher:
    """What all workflows of a run ask."""

    engine: ChatEngine
    attempts: int = 3
    """Replies asked for before an answer counts as rejected."""
    tally: TokenTally = field(default_factory=TokenTally)

    async def ask(self, request: ChatRequest, read: Callable[[str], T]) -> Answer[T]:
        """Return the first reply that `read` accepts; raises as `dyneval.llm.chat.ask`."""
        return await ask(self.engine, request, read, self.attempts, self.tally)
