"""What every run of this room can be told about statistics and output. Light: imported by `--help`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from dyneval.flags import arg


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationOptions:
    """Base of the descriptions of runs, and flags."""

    resamples: Annotated[int, arg("of the bootstrap over prompts")] = 1000
    seed: Annotated[int, arg("of the bootstrap")] = 0
    pictures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], arg("also draw the charts for print", nargs="*")] = ()
    report: Annotated[bool, arg("write tables only")] = True
    workers: Annotated[int, arg("processes that make thumbnails", ge=1)] = os.cpu_count() or 1
