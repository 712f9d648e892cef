"""Pairs whose image is open, and what comes of scoring them: the types that scorers, clients and servers share.

    from dyneval.loaded_pairs import make_pair

    pair = make_pair("cat.png", "a cat on a bench")
    print(pair.pair_id, pair.image.size)

Whatever form an image has (path, bytes, array, tensor), `make_pair` reads it in one way, so that the same picture gets
the same score from each of them. The module imports no torch: a client needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dyneval.errors import ImageError, UserError
from dyneval.files.pairs import default_pair_id
from dyneval.hashing import pixels_sha256
from dyneval.records import ScoreRecord

if TYPE_CHECKING:
    from PIL import Image


def always_wanted() -> bool:
    """True: somebody waits for the pair until its end. No lambda, since pairs travel between processes pickled."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedPair:
    """An image that is to be scored against its prompt. It can be pickled: other processes read images, too."""

    pair_id: str
    prompt: str
    image: Image.Image
    """Upright, RGB."""
    image_name: str
    """What the score record calls the image."""
    file_hash: str | None = None
    """SHA-256 of the file that the image came from, where there is one."""
    file: Path | bytes | None = None
    """That file, or its bytes, which a client sends as it is."""
    is_wanted: Callable[[], bool] = field(default=always_wanted, compare=False, repr=False)
    """The scorer asks between passes: it drops a pair that nobody waits for any more."""

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
    """One of the four passes of a pair is over.

    A pass can end twice: a batch that does not fit into memory begins again in halves.
    """

    name: PassName
    found: dict[str, Any]
    """Results of the pass, by the names of the score record."""


ScorePairs = Callable[[Iterable[LoadedPair]], "Iterator[ScoreRecord | Failure]"]
"""A function that scores pairs as they come: one result each, in order."""


class ScoringError(UserError, RuntimeError):
    """Some of the pairs could not be scored; `failures` says which and why."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = list(failures)
        # Not the message: pickle calls the class again with what is given here.
        super().__init__(self.failures)

    def __str__(self) -> str:
        shown = "; ".join(f"{failure.pair_id}: {failure.reason}" for failure in self.failures[:3])
        more = f"; and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        return f"{len(self.failures)} pair(s) could not be scored: {shown}{more}"


class PromptError(UserError, ValueError):
    """A prompt cannot be used; the message says what was found."""


def make_pair(image: Any, prompt: str, number: int = 1, value_range: tuple[float, float] | None = None) -> LoadedPair:
    """Make a pair from an image in any form; its id is made from the prompt and the image's path, or else `number`.

    Args:
        image: see `dyneval.files.image_forms.read_image`.
        prompt: the text that the image was made from.
        number: place in its batch, from 1.
        value_range: the values of black and of full brightness in an array or a tensor, where their type does not imply
            them.

    Raises:
        ImageError: the image cannot be used.
        PromptError: the prompt is not a text, or one that cannot be encoded.
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
        score_pairs: the method of a scorer or a client.
        images: see `dyneval.files.image_forms.each_image`.
        prompts: as many texts, in the same order.
        value_range: as for `make_pair`.

    Raises:
        ValueError: images or prompts are no list, or their numbers differ.
    """
    failures: list[Failure | None] = []

    def usable() -> Iterator[LoadedPair]:
        for number, (image, prompt) in enumerate(side_by_side(images, prompts), 1):
            pair = pair_or_failure(image, prompt, number, value_range)
            failures.append(pair if isinstance(pair, Failure) else None)
            if isinstance(pair, LoadedPair):
                yield pair

    # All results first: only then does `failures` say which places they belong to.
    results = iter(list(score_pairs(usable())))
    return [failure or next(results) for failure in failures]


def score_all(
    score_pairs: ScorePairs, images: Any, prompts: Any, value_range: tuple[float, float] | None = None
) -> list[ScoreRecord]:
    """As `score_each`, where every pair must be scored.

    Raises:
        ScoringError: a pair cannot be scored.
        ValueError: as `score_each`.
    """
    # All images are read before the first is scored: an unusable one costs seconds, not a scored batch.
    pairs = [
        pair_or_failure(image, prompt, number, value_range)
        for number, (image, prompt) in enumerate(side_by_side(images, prompts), 1)
    ]
    if failures := [pair for pair in pairs if isinstance(pair, Failure)]:
        raise ScoringError(failures)
    results = list(score_pairs([pair for pair in pairs if isinstance(pair, LoadedPair)]))
    if failures := [result for result in results if isinstance(result, Failure)]:
        raise ScoringError(failures)
    return [result for result in results if isinstance(result, ScoreRecord)]


def side_by_side(images: Any, prompts: Any) -> list[tuple[Any, Any]]:
    """The images of a batch with their prompts. Raises ValueError, as `score_each`."""
    from dyneval.files.image_forms import each_image, in_list

    listed, texts = each_image(images), in_list(prompts, "prompts")
    if len(listed) != len(texts):
        raise ValueError(f"images: {len(listed)}, prompts: {len(texts)}; expected as many of both")
    return list(zip(listed, texts, strict=True))


def pair_or_failure(
    image: Any, prompt: Any, number: int, value_range: tuple[float, float] | None = None
) -> LoadedPair | Failure:
    """As `make_pair`, but an image or a prompt that cannot be used becomes a Failure.

    Raises:
        ValueError: `value_range` does not run from a lower to a higher value.
    """
    # A mistake in the call, and so in every pair of a batch: it must not become a failure of each of them.
    if value_range is not None and not value_range[0] < value_range[1]:
        raise ValueError(f"value_range: found {value_range}, expected the values of black and of full brightness")
    try:
        return make_pair(image, prompt, number, value_range)
    except (ImageError, PromptError) as error:
        return Failure(f"pair-{number}", str(error))


def checked_prompt(prompt: Any) -> str:
    """The prompt as a Python text. Raises PromptError: it is not a text, or one that cannot be encoded."""
    if not isinstance(prompt, str):
        raise PromptError(f"prompt: found {type(prompt).__name__}, expected a text")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"prompt: half a character (a lone surrogate) at place {error.start}; was the text cut inside of an emoji?"
        ) from None
    return str(prompt)  # numpy's texts are a class of their own, which msgspec refuses to write
