"""What students behind another engine have in common: requests side by side, and replies that are not trusted.

An engine that samples token by token may take other tokens for the same text than `transformers`, whose forced text is
the tokenizer's own, and its arithmetic differs with the batch: scores agree as two runs of it agree.

The class runs an event loop in a thread, turns replies into probabilities of verdicts, and ends the engine when nothing
uses it any more. What an engine does by itself is in `openai` and `vllm`.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed, wait
from typing import Any, Generic

from PIL import Image

from dyneval.llm.chat import ChatError, ChatReply, TokenChoice, UnfitServer, Unreachable
from dyneval.processing import Processor, grid
from dyneval.replies import RATINGS
from dyneval.scorer.decoder import TOP_CHOICES
from dyneval.scorer.grammar import JSON_FORM
from dyneval.scorer.students.base import Ask, NoReply, Reply, Seen

_VERDICTS = (
    (re.compile(r'"score"\s*:\s*$'), tuple(map(str, RATINGS))),
    (re.compile(r'"correct"\s*:\s*$'), ("true", "false")),
)
"""What a verdict stands behind, and what it may be."""
_TAIL = 32
"""Characters in front of a token that are looked at for the key of a verdict."""
CLOSING_SECONDS = 20.0
"""Longest wait for connections to close, or for an engine to stop."""


class ServedStudent(ABC, Generic[Seen]):
    """Base of engines that answer requests one by one, many at a time; see `Student` for the attributes."""

    name: str
    dtype: str
    device = None
    revision: str | None = None

    def __init__(self, processor: Processor) -> None:
        """Start the event loop that requests are made in.

        Args:
            processor: of the same checkpoint that the engine has.
        """
        self.processor = processor
        # In a thread of its own: a notebook has a running loop in this one. A daemon, so that Python can end while a
        # request hangs.
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

    @abstractmethod
    def read(self, images: Sequence[Image.Image]) -> list[Seen]:
        """Return the images as they go along with requests; nothing is read ahead, the engine has a prefix cache."""

    def answer(self, asks: Sequence[Ask[Seen]], max_new_tokens: int) -> Iterator[tuple[Ask[Seen], Reply | NoReply]]:
        """Ask for all replies at once, and yield them as they come.

        Raises:
            Unreachable: the server is gone; no pair is at fault.
            EngineStopped: there never was one, or the engine is dead.
            UnfitServer: the server does not do what scores are made from.
        """
        # Before any pair: a server that cannot score would fail all of them, one by one.
        asyncio.run_coroutine_threadsafe(self.check(), self._loop).result()
        under_way = {asyncio.run_coroutine_threadsafe(self._one(ask, max_new_tokens), self._loop): ask for ask in asks}
        try:
            for done in as_completed(under_way):
                yield under_way[done], done.result()
        finally:
            # Of a batch that nobody waits for any more: the engine would go on writing.
            for one in under_way:
                one.cancel()

    async def check(self) -> None:
        """Look whether the engine does what scores are made from, before it is asked anything else."""

    @abstractmethod
    async def reply_to(self, ask: Ask[Seen], max_new_tokens: int) -> ChatReply:
        """Get one reply. Raises ChatError, also where the text of `ask` cannot be asked exactly."""

    async def _one(self, ask: Ask[Seen], max_new_tokens: int) -> Reply | NoReply:
        """Get one reply, or the reason why this pair has none. Raises what concerns all pairs."""
        try:
            reply = await self.reply_to(ask, max_new_tokens)
        except (Unreachable, UnfitServer):
            raise
        except ChatError as error:
            return NoReply(str(error))
        # Cut off on purpose, so it is not looked at whether the reply is complete.
        if ask.for_choices:
            return Reply(reply.text, choices=reply.tokens)
        if reply.finish_reason == "length":
            return NoReply(
                f"the reply was not complete after {max_new_tokens} tokens (raise max_new_tokens, or the engine's own "
                "limit)"
            )
        return NoReply(reply.obstacle) if reply.obstacle else Reply(reply.text, verdict_probabilities(reply.tokens))


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, close: Callable[[], Any]) -> None:
    """Cancel what is left of requests, close the engine, and end the loop."""

    async def closed() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}  # of a run that was interrupted
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if asyncio.iscoroutine(done := close()):
            await done

    ending = asyncio.run_coroutine_threadsafe(closed(), loop)
    ending.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    # Garbage may be collected in the loop's own thread, which cannot wait for itself.
    if threading.current_thread() is not thread:
        wait([ending], CLOSING_SECONDS)


def top_logprobs(ask: Ask[Any]) -> int:
    """Return how many alternatives are wanted at each token of a reply; 0 where none are."""
    return TOP_CHOICES if ask.kind == "evaluation" or ask.for_choices else 0


def verdict_probabilities(tokens: Sequence[TokenChoice]) -> list[list[float]]:
    """Return for every verdict in a reply the probabilities of 1 to 5, or of true and false, among themselves.

    Within a text the quotes of the key would be escaped, so what stands behind `"score": ` is the structure's.

    Args:
        tokens: of the whole reply, with their alternatives. An alternative that is not told counts as 0.
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
    """Return a schema with a word to llguidance (backend "guidance") about the form of JSON that students write."""
    return {**schema, "x-guidance": JSON_FORM}
