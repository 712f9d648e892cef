"""What every run of this room can be told about statistics and output. Light: imported by `--help`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationOptions:
    """Base of the descriptions of runs.

    Attributes:
        resamples: of the bootstrap over prompts.
        seed: of the bootstrap.
        report: make report.html.
        pictures: formats of the charts for print.
        workers: processes that make thumbnails.
    """

    resamples: int = 1000
    seed: int = 0
    report: bool = True
    pictures: Sequence[str] = ()
    workers: int = 1
