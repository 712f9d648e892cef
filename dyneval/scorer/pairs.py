"""What is scored and what can go wrong with it. Light: no torch, so that clients and servers share it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.records import prompt_id

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """What is to be scored; `image_name` is how the score record calls the image."""

    pair_id: str
    prompt: str
    image: Image.Image
    image_name: str


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
    from dyneval.images import load_image

    if isinstance(image, str | Path):
        name, opened = str(image), load_image(image)
    else:
        name, opened = f"image-{number}", image.convert("RGB")
    return Pair(pair_id=default_pair_id(prompt, Path(name).name), prompt=prompt, image=opened, image_name=name)


def default_pair_id(prompt: str, image_name: str) -> str:
    """Id of a pair that came without one, from its prompt and its image's name."""
    return f"{prompt_id(prompt)}-{re.sub(r'[^A-Za-z0-9._-]+', '-', image_name)}"
