"""Flags that `benchmark` and `leaderboard` share, and what they become."""

from __future__ import annotations

import argparse
from typing import Any

from dyneval.evaluation.options import EvaluationOptions


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """Add the flags about statistics and output."""
    defaults = EvaluationOptions()
    add = parser.add_argument
    add("--resamples", type=int, default=defaults.resamples, help="of the bootstrap over prompts; default: %(default)s")
    add("--seed", type=int, default=defaults.seed, help="of the bootstrap; default: %(default)s")
    add("--pictures", nargs="*", choices=("png", "svg", "pdf"), default=(), help="also draw the charts for print")
    add("--no-report", dest="report", action="store_false", help="write tables only")
    add("--workers", type=int, default=defaults.workers, help="processes that make thumbnails; default: %(default)s")


def evaluation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `EvaluationOptions` and its kin."""
    return {name: getattr(arguments, name) for name in EvaluationOptions.__dataclass_fields__}
