"""The interface between the four passes and what computes replies: an `Ask` goes in, a `Reply` or `NoReply` comes out.

An engine of your own is a class with the attributes and methods of `Student` (docs/extend/engine.md); it need not
inherit from anything. The passes rely on nothing else, and on all of this: a reply that was not held to its schema, or
without the probabilities of its verdicts, gives scores that do not compare with those of other engines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from dyneval.llm.chat import TokenChoice
    from dyneval.processing import Processor

Prepared = TypeVar("Prepared")
"""An image that was brought to its size."""
Seen = TypeVar("Seen")
"""An image that a student has read; what it is, only that student knows."""


@dataclass(frozen=True, slots=True, eq=False)
class Ask(Generic[Seen]):
    """One question to the student. Two of them are never equal, so they can be keys of a dict."""

    kind: Literal["t2ia", "iqa", "evaluation"]
    """Which task token the turn has."""
    turn: str
    """The human turn as it is stored in training data; it begins with `<image>` where there is an image."""
    schema: dict[str, Any]
    """JSON Schema that the reply fits."""
    image: Seen | None = None
    """As the student has read it; None where the turn has no image."""
    for_choices: bool = False
    """What is wanted are the tokens and what might have stood there; the reply may end before it is complete."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the student wrote."""

    text: str
    """Complete JSON that fits the schema."""
    probabilities: Sequence[Sequence[float]] = ()
    """For every verdict of an evaluation (a score, or `correct`), the probabilities of what it might be."""
    choices: Sequence[TokenChoice] = ()
    """Where they were asked for, the tokens of the reply."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """There is no complete reply, and why."""

    reason: str


class Student(Protocol[Prepared, Seen]):
    """Computes replies, here or elsewhere."""

    name: str
    """Name of the engine, as recorded with scores."""
    dtype: str
    """Arithmetic, as recorded with scores; "server" where that is not known."""
    revision: str | None
    """Which weights it has, as recorded with scores; None where the engine cannot know."""
    processor: Processor

    @property
    def device(self) -> torch.device | None:
        """Where batches are computed; None where the engine makes its own batches on devices of its own."""

    def prepare(self, image: Image.Image) -> Prepared:
        """Check an image and bring it to its size.

        Args:
            image: upright, RGB, of any size.

        Raises:
            ValueError: it is over 200 times longer than wide.
        """

    def read(self, images: Sequence[Prepared]) -> list[Seen]:
        """Read prepared images, which then stand in the asks of one batch; returns them in order."""

    def answer(self, asks: Sequence[Ask[Seen]], max_new_tokens: int) -> Iterator[tuple[Ask[Seen], Reply | NoReply]]:
        """Compute replies.

        Args:
            asks: at least one; all have an image, or none has.
            max_new_tokens: tokens that a reply may have.

        Yields:
            Each of `asks` with what became of it, as soon as that is known, in any order. Whoever closes the iterator
            before its end wants no further replies.
        """


AnyStudent = Student[Any, Any]
"""A student whose form of images does not matter."""
