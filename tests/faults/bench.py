"""The fault bench at night: every fault on every step, many times, and the figures as a table.

    python -m tests.faults.bench --seeds 20 --report benchmarks/reliability.md

With `--trials FILE`, trials are kept there as they end: the same command goes on where it was stopped, runs of other
steps or faults add theirs, and the report is made of all of them. A line that is removed is a trial that is run again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from dyneval.files.jsonl import read_jsonl
from dyneval.files.store import JsonlStore

from .faults import FAULTS, NotPossible, meets
from .steps import STEPS
from .trials import attempt
from .world import Step, World


class Case(NamedTuple):
    """A trial to be run."""

    step: type[Step]
    fault: str
    seed: int

    def __str__(self) -> str:
        return f"{self.step.name}, {self.fault}, seed {self.seed}"


@dataclass(slots=True)
class Cell:
    """What came of one fault on one step."""

    trials: int = 0
    faults: int = 0
    problems: list[str] = field(default_factory=list)
    impossible: str | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Count a trial."""
        if row["impossible"]:
            self.impossible = row["impossible"]
            return
        self.trials += 1
        self.faults += row["faults"]
        if row["problem"]:
            self.problems.append(f"{row['trial']}: {row['problem']}")

    @property
    def survived(self) -> int:
        """Trials after which all promises were kept."""
        return self.trials - len(self.problems)

    def __str__(self) -> str:
        return f"{self.survived} of {self.trials} ({self.faults})" if self.trials else "not possible here"


def seeds_of(fault: str, seeds: int) -> int:
    """How many trials: `seeds` kills, which come at any moment; of other faults a quarter."""
    return seeds if fault == "kill -9" else max(1, seeds // 4)


def cases(seeds: int, steps: list[str], faults: list[str]) -> Iterator[Case]:
    """All trials of a run."""
    for step in STEPS:
        for fault in FAULTS:
            if step.name in steps and fault in faults and meets(step, fault):
                yield from (Case(step, fault, seed) for seed in range(seeds_of(fault, seeds)))


def run(chosen: Iterable[Case], folder: Path) -> Iterator[dict[str, Any]]:
    """Run the trials one after the other; what came of each, as a row."""
    world = World(folder / "world")
    world.folder.mkdir()
    for case in (bar := tqdm(chosen, unit="trial")):
        bar.set_postfix_str(str(case))
        faults, problem, impossible = 0, None, None
        try:
            faults, problem = attempt(world.step(case.step), case.fault, case.seed, folder / "trial")
        except NotPossible as reason:
            impossible = str(reason)
        if problem:
            bar.write(f"{case}: {problem}", file=sys.stderr)
        outcome = {"faults": faults, "problem": problem, "impossible": impossible}
        yield {"trial": str(case), "step": case.step.name, "fault": case.fault, **outcome}


def tally(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Cell]:
    """Cells by step and fault."""
    cells: dict[tuple[str, str], Cell] = defaultdict(Cell)
    for row in rows:
        cells[row["step"], row["fault"]].add(row)
    return cells


def render(cells: dict[tuple[str, str], Cell], command: str) -> str:
    """The report in Markdown."""
    rows = ["| fault | " + " | ".join(step.name for step in STEPS) + " |", "|---" * (len(STEPS) + 1) + "|"]
    for fault in FAULTS:
        found = (str(cells.get((step.name, fault), "not run" if meets(step, fault) else "–")) for step in STEPS)
        rows.append("| " + " | ".join([fault, *found]) + " |")
    problems = [f"- {problem.splitlines()[0]}" for cell in cells.values() for problem in cell.problems]
    return _TEXT.format(
        command=command,
        date=datetime.now(UTC).date(),
        table="\n".join(rows),
        total=sum(cell.trials for cell in cells.values()),
        survived=sum(cell.survived for cell in cells.values()),
        faults=sum(cell.faults for cell in cells.values()),
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

The doors are real processes on 30 pairs of the demo; faults come at random moments from the first write on. The
memory that is short is that of a stand-in for a GPU. Step 4 trains the tiny model for four steps; its last record is
its last checkpoint.
"""


def write(path: Path, report: str) -> None:
    """Write the report in front of the sections that other programs have made."""
    before = path.read_text("utf-8") if path.exists() else ""
    path.write_text(report + "".join(before.partition("\n## ")[1:]), "utf-8")


def main() -> int:
    """Run the bench; the status is 1 when a trial was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="kills of each step; a quarter of the other faults")
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--trials", type=Path, help="JSONL file of trials, to go on with")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    command = " ".join(["python -m tests.faults.bench", *sys.argv[1:]])
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        path = args.trials or Path(folder, "trials.jsonl")
        with JsonlStore(path, "trial") as store:
            chosen = [case for case in cases(args.seeds, args.steps, args.faults) if str(case) not in store.done]
            for row in run(chosen, Path(folder)):
                store.append(row)
                if args.report:  # after each trial: a night may be too short
                    write(args.report, render(tally(list(read_jsonl(path))), command))
        cells = tally(list(read_jsonl(path)))
    report = render(cells, command)
    if args.report:
        write(args.report, report)
    sys.stdout.write(report)
    return int(any(cell.problems for cell in cells.values()))


if __name__ == "__main__":
    raise SystemExit(main())
