"""The fault bench at night: every fault on every step, many times, and the figures as a table.

python -m tests.faults.bench --seeds 20 --report benchmarks/reliability.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from .faults import FAULTS, NotPossible, meets
from .steps import STEPS, Step, World
from .trials import attempt

Case = tuple[type[Step], str, int]


@dataclass(slots=True)
class Cell:
    """What came of one fault on one step."""

    trials: int = 0
    faults: int = 0
    survived: int = 0
    problems: list[str] = field(default_factory=list)
    impossible: str | None = None

    def __str__(self) -> str:
        return "not possible here" if self.impossible else f"{self.survived} of {self.trials} ({self.faults})"


def seeds_of(step: type[Step], fault: str, seeds: int) -> int:
    """How many trials: kills come at any moment, so `seeds` of them; a quarter of the others; a quarter where heavy."""
    wanted = seeds if fault == "kill -9" else max(1, seeds // 4)
    return max(1, wanted // 4) if step.heavy else wanted


def cases(seeds: int, steps: list[str], faults: list[str]) -> Iterator[Case]:
    """All trials of a run."""
    for step in STEPS:
        for fault in FAULTS:
            if step.name in steps and fault in faults and meets(step, fault):
                yield from ((step, fault, seed) for seed in range(seeds_of(step, fault, seeds)))


Cells = dict[tuple[type[Step], str], Cell]


def run(chosen: list[Case], folder: Path, tell: Callable[[Cells], object]) -> Cells:
    """Run the trials one after the other; `tell` is called with what is known after each."""
    world = World(folder / "world")
    world.folder.mkdir()
    cells: Cells = defaultdict(Cell)
    for step, fault, seed in (bar := tqdm(chosen, unit="trial")):
        bar.set_postfix_str(f"{step.name}, {fault}")
        cell = cells[step, fault]
        try:
            trial = attempt(world.step(step), fault, seed, folder / "trial")
        except NotPossible as reason:
            cell.impossible = str(reason)
            continue
        cell.trials += 1
        cell.faults += trial.faults
        cell.survived += trial.problem is None
        if trial.problem is not None:
            cell.problems.append(f"{step.name}, {fault}, seed {seed}: {trial.problem}")
            bar.write(cell.problems[-1], file=sys.stderr)
        tell(cells)
    return cells


def render(cells: Cells, command: str) -> str:
    """The report in Markdown."""
    steps = [step for step in STEPS if any(step is known for known, _ in cells)]
    rows = ["| fault | " + " | ".join(step.name for step in steps) + " |", "|---" * (len(steps) + 1) + "|"]
    for fault in FAULTS:
        found = (str(cells.get((step, fault), "not run" if meets(step, fault) else "–")) for step in steps)
        rows.append("| " + " | ".join([fault, *found]) + " |")
    total, survived = (sum(getattr(cell, name) for cell in cells.values()) for name in ("trials", "survived"))
    faults = sum(cell.faults for cell in cells.values())
    problems = [f"- {problem.splitlines()[0]}" for cell in cells.values() for problem in cell.problems]
    return _TEXT.format(
        command=command,
        date=datetime.now(UTC).date(),
        table="\n".join(rows),
        total=total,
        survived=survived,
        faults=faults,
        explained="\n".join(f"- **{name}**: {(fault.__doc__ or '').strip()}" for name, fault in FAULTS.items()),
        problems="\n".join(["", "Not survived:", "", *problems, ""]) if problems else "",
    )


_TEXT = """# Reliability

    {command}

Written by the bench itself ({date}). A trial disturbs a step, runs the same command again, and then asks:

- are the final outputs those of an undisturbed run, with nothing twice and nothing lost;
- does the summary count what was there before and what was made now;
- did the disturbed run end with a status other than 0 and a message without traceback, where it could say anything;
- are no temporary files and no processes left.

{survived} of {total} trials survived, with {faults} faults. Each cell: trials survived of all (faults that hit).

{table}
{problems}
{explained}

The doors are real processes on 30 pairs of the demo; faults come at random moments from the first write on. The memory
that is short is that of a stand-in for a GPU. Step 4 has tests of its own (`tests/qwenvl/test_training.py`): it is
killed while it writes a checkpoint and between two, ended by SIGTERM, and given images that broke; it ends with the
weights of an undisturbed run.
"""


def main() -> int:
    """Run the bench; the status is 1 when a trial was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="kills of each step; a quarter of the other faults")
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    command = " ".join(["python -m tests.faults.bench", *sys.argv[1:]])

    def tell(cells: Cells) -> None:
        if args.report:  # after each trial: a night may be too short
            args.report.write_text(render(cells, command), "utf-8")

    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        cells = run(list(cases(args.seeds, args.steps, args.faults)), Path(folder), tell)
    sys.stdout.write(render(cells, command))
    return int(any(cell.problems for cell in cells.values()))


if __name__ == "__main__":
    raise SystemExit(main())
