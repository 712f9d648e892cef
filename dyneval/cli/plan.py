"""What a run of the five steps costs: GPU hours, wall time, memory, disk and tokens.

    dyneval plan --pairs 250000 --teacher Qwen3-VL-235B-FP8 --gpus 8xH100
    dyneval plan --measured annotations/annotate.summary.json --measured gendb/summary.json --gpus 8xH100

A plan is arithmetic on the figures printed under it, each with its source. Most are not measurements of DynEval: run a
few hundred pairs and name the summaries, and what they tell takes the place of what was assumed. Where a step does not
fit into the memory of these GPUs, a line says so and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.cli.running import run
from dyneval.flags import Parser

if TYPE_CHECKING:
    from dyneval.planning.assumptions import Assumption
    from dyneval.planning.plan import Step


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("--pairs", type=int, default=250_000, help="pairs of DynEvalInstruct; default: %(default)s")
    add("--teacher", default="Qwen3-VL-235B-FP8", help="name or repository; default: %(default)s")
    add("--student", choices=("2b", "4b"), default="4b", help="default: %(default)s")
    add("--gpus", default="8xH100", metavar="NxTYPE", help="all work on each step in turn; default: %(default)s")
    add(
        *("--measured",),
        type=Path,
        action="append",
        default=[],
        metavar="SUMMARY",
        help="gendb/summary.json, annotate.summary.json, training_log.json or scores.summary.json of a run of yours "
        "on GPUs of this type; may be repeated",
    )
    add(
        *("--assume",),
        type=_assumption,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a figure of the second table; wins over --measured; may be repeated",
    )
    add("--json", action="store_true", help="print the plan as JSON")
    arguments = parser.parse_args(argv)
    if arguments.pairs < 1:
        parser.error("--pairs: expected at least 1")
    return run(parser, lambda: _plan(arguments))


def _assumption(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=VALUE with a number, such as epochs=1") from None


def _plan(arguments: argparse.Namespace) -> int:
    from dyneval.planning.assumptions import Gpus, load
    from dyneval.planning.measured import take_over
    from dyneval.planning.plan import FORMULAS, plan, too_large

    gpus = Gpus.parse(arguments.gpus)
    assumptions = load(arguments.teacher, arguments.student, gpus, FORMULAS)
    for path in arguments.measured:
        take_over(path, assumptions)
    for name, value in arguments.assume:
        assumptions.replace(name, value, "given", "command line")
    steps = plan(arguments.pairs, gpus, assumptions)
    over = too_large(steps, gpus, assumptions)
    used = list(assumptions.used.values())
    if arguments.json:
        asked = {name: getattr(arguments, name) for name in ("pairs", "teacher", "student", "gpus")}
        rows = {"steps": [asdict(step) for step in steps], "assumptions": [asdict(figure) for figure in used]}
        sys.stdout.write(json.dumps(asked | rows, indent=2) + "\n")
    else:
        sys.stdout.write(f"{_steps(steps)}\n\nResting on:\n\n{_assumptions(used)}\n")
    for line in over:
        print(f"dyneval plan: {line}", file=sys.stderr)
    return 1 if over else 0


def _steps(steps: Sequence[Step]) -> str:
    from tabulate import tabulate

    names = ("tokens_in", "tokens_out", "gpu_hours", "wall_hours", "memory_gb", "disk_gb")
    rows = [[step.name, f"{step.items:,} {step.unit}"] for step in steps]
    for row, step in zip(rows, steps, strict=True):
        row += [_number(getattr(step, name)) for name in names]
    totals = {name: sum(getattr(step, name) for step in steps) for name in names}
    totals["memory_gb"] = max(step.memory_gb for step in steps)
    rows.append(["all", "", *map(_number, totals.values())])
    heads = ["step", "work", "tokens in", "tokens out", "GPU hours", "wall hours", "GB a GPU", "disk GB"]
    return tabulate(rows, heads, disable_numparse=True, colalign=("left", *["right"] * 7))


def _assumptions(figures: Sequence[Assumption]) -> str:
    from tabulate import tabulate

    rows = [[figure.name, _number(figure.value, 4), figure.unit, figure.kind, figure.source] for figure in figures]
    return tabulate(rows, ["name", "value", "unit", "kind", "source"], disable_numparse=True)


def _number(value: float, digits: int = 3) -> str:
    """A few digits: more a plan does not know."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.{digits}g}{unit}"
    return f"{float(f'{value:.{digits}g}'):,.10g}" if value else "-"
