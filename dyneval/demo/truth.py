"""The truth about a demo image: what was asked, what was drawn, which faults it has, and the scores these deserve.

The oracle answers from it and the demo's summary compares scores with it; the student never sees it. It lies beside the
image, as a sidecar that Step 2 writes and keeps: `demo-painter/x.png` -> `demo-painter/x.truth.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from dyneval.demo.faults import Fault
from dyneval.demo.scenes import Scene
from dyneval.errors import DataFileError

Score = Annotated[float, Meta(ge=1, le=5)]


# Unknown fields are an error: a truth file of another version must not be read as one of this.
class Truth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything true of one demo image. How the scores come about: `dyneval.demo.knowledge`."""

    prompt: str
    model: str
    seed: int
    size: int
    """Width and height in pixels."""
    asked: Scene
    drawn: Scene
    faults: tuple[Fault, ...]
    truth_t2ia: Score
    """Alignment with the prompt, 1-5."""
    truth_iqa: Score
    """Image quality, 1-5."""

    def encode(self) -> bytes:
        """Return the truth as JSON; `load` reads it back."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read a truth file.

        Raises:
            DataFileError: the file is missing or holds no truth; the message names it.
        """
        # The file lies beside an image that may come from anywhere, so nothing of its content is trusted.
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataFileError(f"{path}: {error}") from error


def truth_path(image_path: Path) -> Path:
    """Return where the truth of the image at `image_path` lies: `<image stem>.truth.json` beside it."""
    return image_path.with_name(f"{image_path.stem}.truth.json")
