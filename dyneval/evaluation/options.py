"""Options that all verbs of the evaluation share: statistics and output.

`--help` imports this module, so it imports neither numpy nor a library of the report.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dyneval.flags import arg


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationOptions:
    """Flags of every verb that compares scores; the descriptions of runs extend it.

    Attributes:
        resamples: of the bootstrap over prompts; 0 gives no intervals.
        seed: of the bootstrap, so that a second run gives the same intervals.
        pictures: formats of the charts for print.
        report: whether to write report.html.
        workers: processes that make thumbnails or altered images.
    """

    resamples: Annotated[int, arg("of the bootstrap over prompts")] = 1000
    seed: Annotated[int, arg("of the bootstrap")] = 0
    pictures: Annotated[tuple[Literal["png", "svg", "pdf"], ...], arg("also draw the charts for print", nargs="*")] = ()
    report: Annotated[bool, arg("write tables only")] = True
    workers: Annotated[int, arg("how many thumbnails or altered images are made at a time", ge=1)] = os.cpu_count() or 1


def named_file(text: str) -> tuple[str, Path]:
    """Take NAME=FILE apart; a file alone is called by its stem.

    Args:
        text: as on the command line, such as "CLIPScore=clip.jsonl".

    Returns:
        The name and the path.
    """
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).stem, Path(text))
