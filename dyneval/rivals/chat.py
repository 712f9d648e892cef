"""Judges behind an OpenAI-compatible server: UnifiedReward, and any chat model that sees images.

One request a pair: the image, and an instruction that holds the prompt. A reply without the ratings it was asked for is
asked for again; a pair that gets none is a reject, never a default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.errors import DataFileError, ImageError
from dyneval.llm.chat import (
    ChatEngine,
    ChatError,
    ChatRequest,
    Message,
    Refused,
    RejectedReply,
    Tally,
    UnusableReply,
    ask,
    split_marks,
)
from dyneval.records import RejectKind
from dyneval.rivals.registry import ComputedScore
from dyneval.work.ahead import together

if TYPE_CHECKING:
    from dyneval.rivals.run import OpenedPair

ATTEMPTS = 3
"""Replies asked for, for one pair."""
MAX_TOKENS = 2048
PLACE = "{prompt}"
"""Where the prompt goes in an instruction."""
_LOW, _HIGH = 1.0, 5.0
_AXIS = re.compile(r"(Alignment|Coherence|Style|Final)\s+Score\s*(?:\(1-5\))?[^\w(]*?(-?\d+(?:\.\d+)?)", re.IGNORECASE)
"""No bracket before the number: of "(1-5): X" the 1 is no rating."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a judge is told, the schema of its reply if any, and what reads it (raises UnusableReply)."""

    text: str
    read: Callable[[str], ComputedScore]
    schema: dict[str, Any] | None = None

    def with_text(self, path: Path) -> Instruction:
        """The same with the text of a file. Raises DataFileError: it cannot be read, or has no place for the prompt."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataFileError(f"{path}: cannot be read as UTF-8 text ({error})") from error
        if PLACE not in text:
            raise DataFileError(f"{path}: says nowhere {PLACE}, where the prompt of an image goes")
        return replace(self, text=text)

    def request(self, prompt: str, image: Path) -> ChatRequest:
        """The request about one pair. Chat templates know the marks <| and |>, so those of a prompt are split."""
        text = self.text.replace(PLACE, split_marks(prompt))
        turn = Message(role="user", text=text, images=(image,))
        return ChatRequest(task="rival", messages=(turn,), schema=self.schema, max_tokens=MAX_TOKENS)


async def judge(
    engine: ChatEngine,
    instruction: Instruction,
    pairs: Iterator[OpenedPair],
    keep: Callable[[OpenedPair, ComputedScore], None],
    refuse: Callable[[OpenedPair, RejectKind, str], None],
    concurrency: int,
) -> None:
    """Ask about pairs, several at once.

    Args:
        engine: whom to ask; closed at the end.
        instruction: what it is told.
        pairs: taken one by one, when there is room for one.
        keep: called with each computed.
        refuse: called with each pair that gets none, the kind of its reject, and why.
        concurrency: pairs under way at once.

    Raises:
        EngineStopped: the server is gone; what it gave before is kept.
    """
    tally = Tally()

    async def work() -> None:
        for one in pairs:
            request = instruction.request(one.pair.prompt, one.path)
            try:
                answer = await ask(engine, request, instruction.read, ATTEMPTS, tally)
            except (ChatError, RejectedReply, ImageError) as error:
                refuse(one, _kind(error), str(error))
            else:
                keep(one, answer.value)

    try:
        await together(work, concurrency)  # none of them writes after the file is closed
    finally:
        await engine.close()


def _kind(error: Exception) -> RejectKind:
    if isinstance(error, Refused):
        return "refused"
    return "engine" if isinstance(error, ChatError) else "image" if isinstance(error, ImageError) else "reply"


def _rating(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LOW <= value <= _HIGH:
        raise UnusableReply(f"{name}: expected a number from 1 to 5, found {str(value)[:40]!r}")
    return float(value)


def read_axes(text: str) -> ComputedScore:
    """Read "Alignment Score (1-5): x" and its kin, or "Final Score: x" of the first models."""
    found = {name.capitalize(): _rating(name, float(number)) for name, number in _AXIS.findall(text)}
    if "Final" in found:
        return ComputedScore(found["Final"])
    missing = [axis for axis in ("Alignment", "Coherence", "Style") if axis not in found]
    if missing:
        raise UnusableReply(f'it has no line "{missing[0]} Score (1-5): X"')
    axes = [found[axis] for axis in ("Alignment", "Coherence", "Style")]
    return ComputedScore(sum(axes) / len(axes), t2ia=axes[0], iqa=axes[1])


def read_ratings(text: str) -> ComputedScore:
    """Read the JSON object that `CHAT_JUDGE` asks for, in or out of a code fence."""
    try:
        value = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except (ValueError, RecursionError):
        raise UnusableReply("it holds no JSON object") from None
    t2ia, iqa = (_rating(name, value.get(name)) for name in ("alignment", "quality"))
    return ComputedScore((t2ia + iqa) / 2, t2ia=t2ia, iqa=iqa)


UNIFIED_REWARD = Instruction(
    f"""\
The image was generated from a text caption. Rate it on three axes, each from 1 to 5:
- Alignment Score: how well the content of the image matches the caption.
- Coherence Score: how consistent the image is in itself, free of glitches and distorted objects.
- Style Score: how pleasing the image looks, whatever the caption asks for.

Write the ratings in this form:

Alignment Score (1-5): X
Coherence Score (1-5): Y
Style Score (1-5): Z

Text Caption: [{PLACE}]""",
    read_axes,
)
"""In our words, with the axes, labels and caption form of the published models; --instruction takes the authors'."""
_RATING = {"type": "integer", "minimum": 1, "maximum": 5}
CHAT_JUDGE = Instruction(
    f"""\
The image was generated from this prompt:
{PLACE}

Rate it from 1 (worst) to 5 (best) in two ways.
alignment: does it show what the prompt asks for, all of it and as asked?
quality: is it well made, whatever it shows, without distorted, broken or blurred parts?

Reply with a JSON object: {{"reasoning": "one or two sentences", "alignment": 1-5, "quality": 1-5}}""",
    read_ratings,
    {
        "type": "object",
        "properties": {"reasoning": {"type": "string"}, "alignment": _RATING, "quality": _RATING},
        "required": ["reasoning", "alignment", "quality"],
        "additionalProperties": False,
    },
)
INSTRUCTIONS = {"unifiedreward": UNIFIED_REWARD, "chat": CHAT_JUDGE}
"""By the name of the rival."""
