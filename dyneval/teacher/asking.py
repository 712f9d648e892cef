"""The teacher: a chat engine, how often it is asked for one answer, and the requests and tokens spent so far.

All workflows of a task share one `Teacher`, so that the limit on engine failures in a row counts over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from dyneval.llm.chat import Answer, ChatEngine, ChatRequest, TokenTally, ask

T = TypeVar("T")


@dataclass(kw_only=True, slots=True)
class Teacher:
    """Whom all workflows of a task ask.

    Attributes:
        engine: answers chat requests.
        attempts: replies asked for before an answer counts as rejected, at least 1.
        tally: requests and tokens; grows.
    """

    # Engines are shared by the tasks of a worker; counts are not.
    engine: ChatEngine
    attempts: int = 3
    tally: TokenTally = field(default_factory=TokenTally)

    async def ask(self, request: ChatRequest, read: Callable[[str], T]) -> Answer[T]:
        """Return the first reply that `read` accepts; the errors are those of `dyneval.llm.chat.ask`."""
        return await ask(self.engine, request, read, self.attempts, self.tally)
