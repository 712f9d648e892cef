"""What is scored and what can go wrong with it. Light: no torch, so that clients and servers share it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.records import prompt_id

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What is to be scored; `image_name` is how the score record calls the image.

    `file_hash` is the SHA-256 of the file that the image came from, where there is one.
    """

    pair_id: str
    prompt: str
    image: Image.Image
    image_name: str
    file_hash: str | None = None

    @property
    def image_hash(self) -> str:
        """SHA-256 of the image's file, else of its pixels."""
        return self.file_hash or _hash_of_pixels(self.image)


@dataclass(frozen=True, slots=True)
class Failure:
    """A pair that could not be scored, and why."""

    pair_id: str
    reason: str


class ScoringError(RuntimeError):
    """Some of the pairs could not be scored; `failures` says which and why."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        self.failures = list(failures)
        shown = "; ".join(f"{failure.pair_id}: {failure.reason}" for failure in self.failures[:3])
        more = f"; and {len(self.failures) - 3} more" if len(self.failures) > 3 else ""
        super().__init__(f"{len(self.failures)} pair(s) could not be scored: {shown}{more}")


def make_pair(image: str | Path | Image.Image, prompt: str, number: int = 1) -> Pair:
    """A pair from an image file or an open image; it is named after its prompt and the file, or `number`.

    Raises:
        ImageError: the file cannot be used.
    """
    from dyneval.images import load_image, sha256

    if isinstance(image, str | Path):
        name, opened, digest = str(image), load_image(image), sha256(Path(image))
    else:
        name, opened, digest = f"image-{number}", image.convert("RGB"), None
    return Pair(pair_id=default_pair_id(prompt, name), prompt=prompt, image=opened, image_name=name, file_hash=digest)


def default_pair_id(prompt: str, image_name: str) -> str:
    """Id of a pair that came without one, from its prompt and its image's name."""
    return f"{prompt_id(prompt)}-{re.sub(r'[^A-Za-z0-9._-]+', '-', image_name)}"


def content_key(
    prompt: str, image_hash: str, student: Mapping[str, Any], questions: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """Name of a result by what it was made from: results with one key are interchangeable.

    Args:
        prompt: the prompt, to the letter.
        image_hash: `Pair.image_hash`.
        student: weights, template and all settings that scores depend on, as JSON values.
        questions: the T2IA questions that were given for the prompt; None where the student asks its own.

    Returns:
        SHA-256 in hex.
    """
    content = {"prompt": prompt, "image": image_hash, "student": student, "questions": questions}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def _hash_of_pixels(image: Image.Image) -> str:
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode("ascii"))
    digest.update(image.tobytes())
    return digest.hexdigest()
