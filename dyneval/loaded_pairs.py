"""Pairs whose image is open, and what became of them; for scorers, clients and servers alike, so without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dyneval.errors import UserError
from dyneval.files.pairs import default_pair_id
from dyneval.hashing import pixels_sha256
from dyneval.records import ScoreRecord

if TYPE_CHECKING:
    from PIL import Image


def _always() -> bool:
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedPair:
    """What is to be scored; `make_pair` makes one from an image in any form. It can be pickled: workers make pairs."""

    pair_id: str
    prompt: str
    image: Image.Image
    """Upright, RGB."""
    image_name: str
    """How the score record calls the image."""
    file_hash: str | None = None
    """SHA-256 of the file that the image came from, where there is one."""
    file: Path | bytes | None = None
    """That file, or its bytes: a client sends it as it is."""
    is_wanted: Callable[[], bool] = field(default=_always, compare=False, repr=False)
    """Asked between passes: a pair that nobody waits for any more is left behind."""

    @property
    def image_hash(self) -> str:
        """SHA-256 of the image's file, else of its pixels."""
        return self.file_hash or pixels_sha256(self.image)


@dataclass(frozen=True, slots=True)
class Failure:
    """A pair that could not be scored, and why."""

    pair_id: str
    reason: str


PassName = Literal["t2ia_questions", "t2ia_scores", "iqa_questions", "iqa_scores"]


@dataclass(frozen=True, slots=True)
class PassEnded:
    """One of the passes of a pair is over. A batch that does not fit into memory begins again, and so do its passes."""

    name: PassName
    found: dict[str, Any]
    """What it found, by the names of the score record."""


ScorePairs = Callable[[Iterable[LoadedPair]], "Iterator[ScoreRecord | Failure]"]
"""Scores pairs as they come: one result each, in order."""


class ScoringError(UserError, RuntimeError):
    """Some of the pairs could not be scored; `failures` says which and why."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = list(failures)
        super().__init__(self.failures)  # not the message: pickle makes the error again from what is given here

    def __str__(self) -> str:
        shown = "; ".join(f"{failure.pair_id}: {failure.reason}" for failure in self.failures[:3])
        more = f"; and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        return f"{len(self.failures)} pair(s) could not be scored: {shown}{more}"


class PromptError(UserError, ValueError):
    """A prompt cannot be used; the message says what was found."""


def make_pair(image: Any, prompt: str, number: int = 1, value_range: tuple[float, float] | None = None) -> LoadedPair:
    """A pair from an image in any form; it is named after its prompt and the image's path, or else `number`.

    Args:
        image: see `dyneval.files.image_forms.read_image`.
        prompt: what the image was made from.
        number: place in its batch, from 1.
        value_range: what the values of an array or a tensor run between, where their type does not imply it.

    Raises:
        ImageError: the image cannot be used.
        PromptError: the prompt is no text, or not one that can be encoded.
    """
    from dyneval.files.image_forms import path_of, read_image

    text = checked_prompt(prompt)
    name = path_of(image) or f"image-{number}"
    read = read_image(image, name, value_range=value_range)
    return LoadedPair(
        pair_id=default_pair_id(text, name),
        prompt=text,
        image=read.image,
        image_name=name,
        file_hash=read.file_hash,
        file=read.file,
    )


def score_each(
    score_pairs: ScorePairs, images: Any, prompts: Any, value_range: tuple[float, float] | None = None
) -> list[ScoreRecord | Failure]:
    """Score a batch of images against their prompts: one result each, in order.

    An image or a prompt that cannot be used is a failure of its own pair; the others are scored. Images are read as
    `score_pairs` asks for them.

    Args:
        score_pairs: of a scorer or a client.
        images: see `dyneval.files.image_forms.each_image`.
        prompts: as many texts, in the same order.
        value_range: what the values of arrays and tensors run between, where their type does not imply it.

    Raises:
        ValueError: images or prompts are no list, or their numbers differ.
    """
    failures: list[Failure | None] = []

    def usable() -> Iterator[LoadedPair]:
        for made in _made(images, prompts, value_range):
            failures.append(made if isinstance(made, Failure) else None)
            if isinstance(made, LoadedPair):
                yield made

    results = iter(list(score_pairs(usable())))
    return [failure or next(results) for failure in failures]


def score_all(
    score_pairs: ScorePairs, images: Any, prompts: Any, value_range: tuple[float, float] | None = None
) -> list[ScoreRecord]:
    """As `score_each`, where all must be scored: all images are read before the first is scored.

    Raises:
        ScoringError: a pair cannot be scored.
        ValueError: as `score_each`.
    """
    made = list(_made(images, prompts, value_range))
    if failures := [one for one in made if isinstance(one, Failure)]:
        raise ScoringError(failures)
    results = list(score_pairs([one for one in made if isinstance(one, LoadedPair)]))
    if failures := [one for one in results if isinstance(one, Failure)]:
        raise ScoringError(failures)
    return [one for one in results if isinstance(one, ScoreRecord)]


def _made(images: Any, prompts: Any, value_range: tuple[float, float] | None) -> Iterator[LoadedPair | Failure]:
    for number, (image, prompt) in enumerate(side_by_side(images, prompts), 1):
        yield pair_or_failure(image, prompt, number, value_range)


def side_by_side(images: Any, prompts: Any) -> list[tuple[Any, Any]]:
    """The images of a batch with their prompts. Raises ValueError, as `score_each`."""
    from dyneval.files.image_forms import each_image, in_list

    each, texts = each_image(images), in_list(prompts, "prompts")
    if len(each) != len(texts):
        raise ValueError(f"images: {len(each)}, prompts: {len(texts)}; expected as many of both")
    return list(zip(each, texts, strict=True))


def pair_or_failure(
    image: Any, prompt: Any, number: int, value_range: tuple[float, float] | None = None
) -> LoadedPair | Failure:
    """As `make_pair`, of an image or a prompt that may not be usable. Raises ValueError: `value_range` is none."""
    from dyneval.errors import ImageError

    if value_range is not None and not value_range[0] < value_range[1]:
        raise ValueError(f"value_range: found {value_range}, expected the values of black and of full brightness")
    try:
        return make_pair(image, prompt, number, value_range)
    except (ImageError, PromptError) as error:
        return Failure(f"pair-{number}", str(error))


def checked_prompt(prompt: Any) -> str:
    """The prompt as a text of Python. Raises PromptError: it is no text, or not one that can be encoded."""
    if not isinstance(prompt, str):
        raise PromptError(f"prompt: found {type(prompt).__name__}, expected a text")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"prompt: half a character (a lone surrogate) at place {error.start}; was the text cut inside of an emoji?"
        ) from None
    return str(prompt)  # a text of numpy is another class
