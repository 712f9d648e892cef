"""What every run of this room can be told about statistics and output. Light: imported by `--help`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dyneval.flags import arg


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationOptions:
    """Base of the descriptions of runs, and flags."""

    resamples: Annotated[int, arg("of the bootstrap over prompts")] = 1000
    seed: Annotated[int, arg("of the bootstrap")] = 0
    pictures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], arg("also draw the charts for print", nargs="*")] = ()
    report: Annotated[bool, arg("write tables only")] = True
    workers: Annotated[int, arg("how many thumbnails or altered images are made at a time", ge=1)] = os.cpu_count() or 1


def named_file(text: str) -> tuple[str, Path]:
    """Take NAME=FILE apart; a file alone is called by its stem."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).stem, Path(text))
