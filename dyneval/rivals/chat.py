"""Judges behind an OpenAI-compatible server: UnifiedReward, and any chat model that sees images.

Each pair is one request: the image, and an instruction that holds the prompt. A reply without the ratings that were
asked for is asked for again. A pair that gets none becomes a reject and never a default score, which would look like an
opinion of the judge.
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
    TokenTally,
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
# Bounds a reply that does not end. Reasoning and ratings as asked for are far shorter.
MAX_TOKENS = 2048
PLACE = "{prompt}"
"""Where the prompt goes in an instruction."""
_LOW, _HIGH = 1.0, 5.0
# No bracket may stand before the number: the 1 of "(1-5): X" is no rating.
_AXIS = re.compile(r"(Alignment|Coherence|Style|Final)\s+Score\s*(?:\(1-5\))?[^\w(]*?(-?\d+(?:\.\d+)?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a judge is told, and how its reply is read.

    Attributes:
        text: the instruction, with `PLACE` where the prompt goes.
        read: makes scores of a reply; raises UnusableReply where it holds none.
        schema: JSON Schema that the server holds the reply to; None for models that were trained on a form of text.
    """

    text: str
    read: Callable[[str], ComputedScore]
    schema: dict[str, Any] | None = None

    def with_text(self, path: Path) -> Instruction:
        """The same with the text of a file.

        Raises:
            DataFileError: the file cannot be read as UTF-8, or has no place for the prompt.
        """
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
        engine: client of the judge's server; closed at the end.
        instruction: what the judge is told.
        pairs: taken one by one, each when a request has ended.
        keep: called with each pair and its scores.
        refuse: called with each pair that gets none, the kind of its reject, and why.
        concurrency: requests in flight at once.

    Raises:
        EngineStopped: the server is gone; what it gave before is kept.
    """
    tally = TokenTally()

    async def work() -> None:
        for one in pairs:
            request = instruction.request(one.pair.prompt, one.path)
            try:
                answer = await ask(engine, request, instruction.read, ATTEMPTS, tally)
            except (ChatError, RejectedReply, ImageError) as error:
                kind: RejectKind = "image" if isinstance(error, ImageError) else "reply"
                if isinstance(error, ChatError):
                    kind = "refused" if isinstance(error, Refused) else "engine"
                refuse(one, kind, str(error))
            else:
                keep(one, answer.value)

    try:
        # It waits for all of them also after an error, so that none writes after the table is closed.
        await together(work, concurrency)
    finally:
        await engine.close()


def _rating(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _LOW <= value <= _HIGH:
        raise UnusableReply(f"{name}: expected a number from 1 to 5, found {str(value)[:40]!r}")
    return float(value)


def read_axes(text: str) -> ComputedScore:
    """Read "Alignment Score (1-5): x" and the other two axes, or the "Final Score: x" of UnifiedReward's first models.

    Raises:
        UnusableReply: an axis is missing, or a rating is not from 1 to 5.
    """
    # A later line wins: a model that repeats itself has the last word.
    found = {name.capitalize(): _rating(name, float(number)) for name, number in _AXIS.findall(text)}
    if "Final" in found:
        return ComputedScore(found["Final"])
    missing = [axis for axis in ("Alignment", "Coherence", "Style") if axis not in found]
    if missing:
        raise UnusableReply(f'it has no line "{missing[0]} Score (1-5): X"')
    axes = [found[axis] for axis in ("Alignment", "Coherence", "Style")]
    return ComputedScore(sum(axes) / len(axes), t2ia=axes[0], iqa=axes[1])


def read_ratings(text: str) -> ComputedScore:
    """Read the JSON object that `CHAT_JUDGE` asks for, in or out of a code fence.

    Raises:
        UnusableReply: there is no object, or a rating is not from 1 to 5.
    """
    # From the first brace to the last: models write fences and words around the object although told not to.
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
