"""The truth about a demo image: what was asked, what was drawn, which faults it has, and the scores these deserve.

Whoever writes a demo image writes its truth beside it: `pairs/x.png` -> `pairs/x.truth.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyneval.demo.faults import Fault
from dyneval.demo.scenes import Scene, check_keys
from dyneval.errors import DataFileError
from dyneval.files.atomic import read_json, write_json
from dyneval.structs import Row

_KEYS = ("prompt", "model", "seed", "size", "asked", "drawn", "faults", "truth_t2ia", "truth_iqa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Everything true of one demo image. How the scores come about: `dyneval.demo.knowledge`."""

    prompt: str
    model: str
    seed: int
    size: int
    """Width and height in pixels."""
    asked: Scene
    drawn: Scene
    faults: tuple[Fault, ...]
    truth_t2ia: float
    """Alignment with the prompt, 1-5."""
    truth_iqa: float
    """Image quality, 1-5."""

    def __post_init__(self) -> None:
        for key, kind in (("prompt", str), ("model", str), ("seed", int), ("size", int)):
            if type(getattr(self, key)) is not kind:
                raise ValueError(f"truth: {key!r} must be {kind.__name__}, not {getattr(self, key)!r}")
        for key in ("truth_t2ia", "truth_iqa"):
            score = getattr(self, key)
            if type(score) not in (int, float) or not 1 <= score <= 5:
                raise ValueError(f"truth: {key!r} must be a number 1-5, not {score!r}")

    def to_dict(self) -> Row:
        """Plain JSON values; `from_dict` reads them back."""
        plain = {key: getattr(self, key) for key in _KEYS}
        nested = {"asked": self.asked.to_dict(), "drawn": self.drawn.to_dict()}
        return plain | nested | {"faults": [fault.to_dict() for fault in self.faults]}

    @classmethod
    def from_dict(cls, data: Any) -> Truth:
        """Read what `to_dict` wrote. Raises ValueError that says which key is missing, unknown or wrong."""
        check_keys("truth", data, _KEYS)
        if not isinstance(data["faults"], list):
            raise ValueError(f"truth: 'faults' must be a list, not {type(data['faults']).__name__}")
        nested = {"asked": Scene.from_dict(data["asked"]), "drawn": Scene.from_dict(data["drawn"])}
        return cls(**{**data, **nested, "faults": tuple(Fault.from_dict(fault) for fault in data["faults"])})

    def save(self, image_path: Path) -> Path:
        """Write the truth of the image at `image_path` beside it and return where it is."""
        path = truth_path(image_path)
        write_json(path, self.to_dict())
        return path

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read a file that `save` wrote.

        Raises:
            DataFileError: the file is missing or holds no truth; the message names it.
        """
        data = read_json(path)
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise DataFileError(f"{path}: {error}") from error


def truth_path(image_path: Path) -> Path:
    """Where the truth of the image at `image_path` lies: `<image stem>.truth.json` beside it."""
    return image_path.with_name(f"{image_path.stem}.truth.json")
