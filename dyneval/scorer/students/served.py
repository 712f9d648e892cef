"""What students behind another engine have in common: requests side by side, and replies that are not trusted.

An engine that samples token by token may take other tokens for the same text than `transformers`, whose forced text is
the tokenizer's own, and its arithmetic differs with the batch: scores agree as two runs of it agree.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Any

from PIL import Image

from dyneval.llm.chat import ChatError, ChatReply, TokenChoice, UnfitServer, Unreachable
from dyneval.processing import Processor, grid
from dyneval.replies import RATINGS
from dyneval.scorer.decoder import TOP_CHOICES
from dyneval.scorer.grammar import JSON_FORM
from dyneval.scorer.students.base import Ask, Seen

_VERDICTS = (
    (re.compile(r'"score"\s*:\s*$'), tuple(map(str, RATINGS))),
    (re.compile(r'"correct"\s*:\s*$'), ("true", "false")),
)
"""What a verdict stands behind, and what it may be."""
_TAIL = 32
CLOSING_SECONDS = 20.0
"""Longest wait for connections to close, or for an engine to stop."""


class ServedStudent(ABC):
    """Base of engines that answer requests one by one, many at a time."""

    name: str
    dtype: str
    device = None
    revision: str | None = None

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        # In a thread of its own: a notebook has a running loop in this one.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"engine-{self.name}", daemon=True)
        self._thread.start()

    def close_with(self, close: Callable[[], Any]) -> None:
        """Have `close`, a function or coroutine function, called when nothing uses this student any more.

        At the latest that is when Python ends: a scorer has no end of its own that its users would have to think of.
        `close` must not hold this student.
        """
        weakref.finalize(self, _end, self._loop, self._thread, close)

    def prepare(self, image: Image.Image) -> Image.Image:
        """Resize as the processor does, so that the engine's own resizing, by the same rule, has nothing left to do."""
        processor = self.processor
        columns, rows = grid(image.width, image.height, processor.limits, processor.cell)
        return image.resize((columns * processor.cell, rows * processor.cell), processor.image_processor.resample)

    def read(self, images: Sequence[Image.Image]) -> list[Seen]:
        """Nothing is read ahead: the engine has a prefix cache."""
        return list(images)

    def answer(self, asks: Sequence[Ask], max_new_tokens: int) -> None:
        """Ask for all replies at once.

        Raises:
            Unreachable: the server is gone; no pair is at fault.
            EngineStopped: there never was one, or the engine is dead.
            UnfitServer: the server does not do what scores are made from.
        """
        asyncio.run_coroutine_threadsafe(self._all(asks, max_new_tokens), self._loop).result()

    @abstractmethod
    async def reply_to(self, ask: Ask, max_new_tokens: int) -> ChatReply:
        """Get one reply. Raises ChatError, also where the text of `ask` cannot be asked exactly."""

    async def _all(self, asks: Sequence[Ask], max_new_tokens: int) -> None:
        await asyncio.gather(*(self._one(ask, max_new_tokens) for ask in asks))

    async def _one(self, ask: Ask, max_new_tokens: int) -> None:
        try:
            reply = await self.reply_to(ask, max_new_tokens)
            if reply.finish_reason == "length" and ask.choices is None:
                raise ChatError(
                    f"the reply was not complete after {max_new_tokens} tokens (raise max_new_tokens, or the engine's "
                    "own limit)"
                )
            if reply.obstacle and ask.choices is None:
                raise ChatError(reply.obstacle)
        except (Unreachable, UnfitServer):
            raise
        except ChatError as error:
            ask.failure = str(error)
        else:
            ask.text, ask.probabilities = reply.text, verdict_probabilities(reply.tokens)
            if ask.choices is not None:
                ask.choices += reply.tokens
        ask.end()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, close: Callable[[], Any]) -> None:
    async def closed() -> None:
        if asyncio.iscoroutine(done := close()):
            await done

    ending = asyncio.run_coroutine_threadsafe(closed(), loop)
    ending.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    # Garbage may be collected in the loop's own thread, which cannot wait for itself.
    if threading.current_thread() is not thread:
        wait([ending], CLOSING_SECONDS)


def top_logprobs(ask: Ask) -> int:
    """Alternatives wanted at each token of a reply; 0 where none are."""
    return TOP_CHOICES if ask.kind == "evaluation" or ask.choices is not None else 0


def verdict_probabilities(tokens: Sequence[TokenChoice]) -> list[list[float]]:
    """For every verdict in a reply, the probabilities of 1 to 5, or of true and false, among themselves.

    Within a text the quotes of the key would be escaped, so what stands behind `"score": ` is the structure's.
    """
    found = []
    tail = ""
    for token in tokens:
        said = token.text.strip()
        words = next((words for key, words in _VERDICTS if said in words and key.search(tail)), ())
        if words:
            logprobs = {text.strip(): value for text, value in token.alternatives.items()}
            logprobs.setdefault(said, token.logprob)
            weights = [math.exp(logprobs.get(word, -math.inf)) for word in words]
            found.append([weight / sum(weights) for weight in weights])
        tail = (tail + token.text)[-_TAIL:]
    return found


def guided(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with a word to llguidance (backend "guidance") about the form of JSON that students write."""
    return {**schema, "x-guidance": JSON_FORM}
