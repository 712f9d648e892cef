"""What a run of the five steps costs: GPU hours, wall time, memory, disk and tokens.

    dyneval plan --pairs 250000 --teacher Qwen3-VL-235B-FP8 --gpus 8xH100
    dyneval plan --measured annotations/annotate.summary.json --measured gendb/summary.json --gpus 8xH100

A plan is arithmetic on the figures printed under it, each with its source. Most are not measurements of DynEval: run a
few hundred pairs and name the summaries, and what they tell takes the place of what was assumed. Where a step does not
fit into the memory of these GPUs, a line says so and the status is 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.planning.plan import PlannedStep


def _assumption(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise SettingError(f"{text!r}: expected NAME=VALUE with a number, such as epochs=1") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """The run, the machines and what is known of them."""

    pairs: Annotated[int, arg("pairs of DynEvalInstruct", ge=1)] = 250_000
    teacher: Annotated[str, arg("name or repository")] = "Qwen3-VL-235B-FP8"
    student: Annotated[Literal["2b", "4b"], arg("size")] = "4b"
    gpus: Annotated[str, arg("all work on each step in turn", metavar="NxTYPE")] = "8xH100"
    measured: Annotated[
        tuple[Path, ...],
        arg(
            "gendb/summary.json, annotate.summary.json, training_log.json or scores.summary.json of a run of yours on "
            "GPUs of this type; may be repeated",
            metavar="SUMMARY",
        ),
    ] = ()
    assume: Annotated[
        tuple[tuple[str, float], ...],
        arg(
            "another value for a figure of the second table; wins over --measured; may be repeated",
            metavar="NAME=VALUE",
            parse=_assumption,
        ),
    ] = ()
    json: Annotated[bool, arg("print the plan as JSON")] = False


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(PlanOptions, argv)
    return run(parser, _plan, options)


def _plan(options: PlanOptions) -> int:
    from tabulate import tabulate

    from dyneval.planning.assumptions import Gpus, load
    from dyneval.planning.measured import take_over
    from dyneval.planning.plan import FORMULAS, plan, too_large

    gpus = Gpus.parse(options.gpus)
    assumptions = load(options.teacher, options.student, gpus, FORMULAS)
    for path in options.measured:
        take_over(path, assumptions)
    # Last, since what a user says wins over what was measured.
    for name, value in options.assume:
        assumptions.replace(name, value, "given", "command line")
    steps = plan(options.pairs, gpus, assumptions)
    over = too_large(steps, gpus, assumptions)
    used = list(assumptions.used.values())
    if options.json:
        asked = {name: getattr(options, name) for name in ("pairs", "teacher", "student", "gpus")}
        rows = {"steps": [asdict(step) for step in steps], "assumptions": [asdict(figure) for figure in used]}
        sys.stdout.write(json.dumps(asked | rows, indent=2) + "\n")
    else:
        # Three digits of a result and four of what it rests on: those are to be compared with their sources.
        figures = [[one.name, _number(one.value, 4), one.unit, one.kind, one.source] for one in used]
        resting = tabulate(figures, ["name", "value", "unit", "kind", "source"], disable_numparse=True)
        sys.stdout.write(f"{_steps(steps)}\n\nResting on:\n\n{resting}\n")
    for line in over:
        print(f"dyneval plan: {line}", file=sys.stderr)
    return 1 if over else 0


def _steps(steps: Sequence[PlannedStep]) -> str:
    from tabulate import tabulate

    names = ("tokens_in", "tokens_out", "gpu_hours", "wall_hours", "memory_gb", "disk_gb")
    rows = [[step.name, f"{step.items:,} {step.unit}"] for step in steps]
    for row, step in zip(rows, steps, strict=True):
        row += [_number(getattr(step, name)) for name in names]
    totals = {name: sum(getattr(step, name) for step in steps) for name in names}
    # The steps run one after the other: their hours add up, their memory does not.
    totals["memory_gb"] = max(step.memory_gb for step in steps)
    rows.append(["all", "", *map(_number, totals.values())])
    heads = ["step", "work", "tokens in", "tokens out", "GPU hours", "wall hours", "GB a GPU", "disk GB"]
    return tabulate(rows, heads, disable_numparse=True, colalign=("left", *["right"] * 7))


def _number(value: float, digits: int = 3) -> str:
    """A few digits: more a plan does not know."""
    # Twice formatted: the first cuts the digits, the second writes 12,300 and not 1.23e+04.
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= size:
            return f"{value / size:.{digits}g}{unit}"
    return f"{float(f'{value:.{digits}g}'):,.10g}" if value else "-"
