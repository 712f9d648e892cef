"""The seam between the four passes and what computes replies: an `Ask` goes in, its reply is filled in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dyneval.llm.chat import TokenChoice
from dyneval.replies import ReplyError

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from dyneval.processing import Processor

Seen = Any
"""An image that an engine has prepared or read; what it is, only that engine knows."""


@dataclass(slots=True)
class Ask:
    """One question to the student, and what became of it."""

    kind: Literal["t2ia", "iqa", "evaluation"]
    turn: str
    """The human turn as it is stored in training data; it begins with `<image>` where there is an image."""
    schema: dict[str, Any]
    """JSON Schema that the reply fits."""
    image: Seen | None = None
    on_end: Callable[[Ask], None] | None = None
    """Called when the reply is complete or has failed, while others may still be at work."""
    failure: str | None = None
    """Why there is no complete reply; None when there is one."""
    text: str = ""
    probabilities: list[list[float]] = field(default_factory=list)
    """For every verdict of an evaluation (a score, or `correct`), the probabilities of what it might be."""
    choices: list[TokenChoice] | None = None
    """A list here is filled with the tokens of the reply, which may then end before it is complete."""

    def reply(self) -> str:
        """Text of the complete reply. Raises ReplyError: there is none."""
        if self.failure is not None:
            raise ReplyError(self.failure)
        return self.text

    def end(self) -> None:
        """Tell that the reply is complete or has failed."""
        if self.on_end:
            self.on_end(self)


class Engine(Protocol):
    """Computes the replies of one student."""

    name: str
    """As recorded with scores."""
    dtype: str
    """Arithmetic, as recorded with scores; "server" where that is not known."""
    revision: str | None
    """Which weights it has, as recorded with scores; None where the engine cannot know."""
    processor: Processor

    @property
    def device(self) -> torch.device | None:
        """Where batches are computed; None where the engine makes its own."""

    def prepare(self, image: Image.Image) -> Seen:
        """Check an image and bring it to its size. Raises ValueError: it is over 200 times longer than wide."""

    def read(self, images: Sequence[Seen]) -> list[Seen]:
        """Read prepared images, which then stand in the asks of one batch; in order."""

    def answer(self, asks: Sequence[Ask], max_new_tokens: int) -> None:
        """Fill in the replies of `asks`, all with an image or all without; what fails gets its `failure`."""
