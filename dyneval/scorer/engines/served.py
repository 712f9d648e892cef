"""What students behind another engine have in common: requests side by side, and replies that are not trusted.

An engine that samples token by token may take other tokens for the same text than `transformers`, whose forced text is
the tokenizer's own, and its arithmetic differs with the batch: scores agree as two runs of it agree.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from dyneval import schemas
from dyneval.llm.base import ChatError, ChatReply, TokenChoice, Unreachable
from dyneval.processing import Processor
from dyneval.scorer.engines.base import Ask, Seen
from dyneval.scorer.grammar import JSON_FORM, SCORES

TOP_LOGPROBS = 20
"""Alternatives asked for at each token: the most that servers give. The grammar leaves five at a score."""
_BEFORE_SCORE = re.compile(r'"score"\s*:\s*$')
_TAIL = 32


class ServedStudent(ABC):
    """Base of engines that answer requests one by one, many at a time."""

    name: str
    dtype: str
    device = None

    def __init__(self, processor: Processor) -> None:
        self.processor = processor
        # In a thread of its own: a notebook has a running loop in this one.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name=f"engine-{self.name}", daemon=True).start()

    def prepare(self, image: Image.Image) -> Image.Image:
        """Resize as the processor does, so that the engine's own resizing, by the same rule, has nothing left to do."""
        processor = self.processor
        height, width = smart_resize(
            image.height, image.width, processor.cell, processor.min_pixels, processor.max_pixels
        )
        return image.resize((width, height), processor.image_processor.resample)

    def read(self, images: Sequence[Image.Image]) -> list[Seen]:
        """Nothing is read ahead: the engine has a prefix cache."""
        return list(images)

    def answer(self, asks: Sequence[Ask], max_new_tokens: int) -> None:
        """Ask for all replies at once and check each. Raises Unreachable: the server is gone, not a pair at fault."""
        asyncio.run_coroutine_threadsafe(self._all(asks, max_new_tokens), self._loop).result()

    @abstractmethod
    async def reply_to(self, ask: Ask, max_new_tokens: int) -> ChatReply:
        """Get one reply. Raises ChatError, also where the text of `ask` cannot be asked exactly."""

    async def _all(self, asks: Sequence[Ask], max_new_tokens: int) -> None:
        await asyncio.gather(*(self._one(ask, max_new_tokens) for ask in asks))

    async def _one(self, ask: Ask, max_new_tokens: int) -> None:
        try:
            reply = await self.reply_to(ask, max_new_tokens)
            if reply.finish_reason == "length":
                raise ChatError(
                    f"the reply was not complete after {max_new_tokens} tokens (raise max_new_tokens, or the engine's "
                    "own limit)"
                )
            take(ask, reply)
        except Unreachable:
            raise
        except ChatError as error:
            ask.failure = str(error)
        ask.end()


def take(ask: Ask, reply: ChatReply) -> None:
    """Check a reply and put it into `ask`. Raises ChatError: it does not fit the schema, or has not its logprobs."""
    try:
        value = json.loads(reply.text)
        schemas.check("student_reply", value, "the reply", ask.reply_kind)
    except ValueError as error:
        raise ChatError(f"the engine did not hold the reply to its schema ({error})") from None
    probabilities = []
    if ask.reply_kind == "evaluation":
        _check_questions(ask, value)
        probabilities = score_probabilities(reply.tokens)
        if len(probabilities) != len(value["answers"]):
            raise ChatError(
                f"the engine gave logprobs for {len(probabilities)} of {len(value['answers'])} scores, without which "
                "there are no soft scores"
            )
    ask.text, ask.score_probabilities = reply.text, probabilities


def _check_questions(ask: Ask, value: Any) -> None:
    wanted = ask.schema["$defs"]["evaluation"]["properties"]["answers"]["prefixItems"]
    asked = [answer["properties"]["question"]["const"] for answer in wanted]
    if [answer["question"] for answer in value["answers"]] != asked:
        raise ChatError("the engine did not hold the reply to the questions that were asked")


def score_probabilities(tokens: Sequence[TokenChoice]) -> list[list[float]]:
    """For every score in a reply, the probabilities of 1 to 5 among themselves.

    A score is the digit behind `"score": `. Within a text the quotes would be escaped, so this is the structure's.
    """
    found = []
    tail = ""
    for token in tokens:
        if _BEFORE_SCORE.search(tail) and token.text.strip() in map(str, SCORES):
            logprobs = {text.strip(): value for text, value in token.alternatives.items()}
            logprobs.setdefault(token.text.strip(), token.logprob)
            weights = [math.exp(logprobs.get(str(score), -math.inf)) for score in SCORES]
            found.append([weight / sum(weights) for weight in weights])
        tail = (tail + token.text)[-_TAIL:]
    return found


def guided(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, with a word to llguidance (backend "guidance") about the form of JSON that students write."""
    return {**schema, "x-guidance": JSON_FORM}
