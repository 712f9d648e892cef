"""One trial: disturb a step, run it again, and hold what it leaves against an undisturbed run."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from .door import Broken, Door
from .faults import FAULTS, Disturbed
from .world import Count, Step


class Trial(NamedTuple):
    """How many faults hit, and which promise was broken; None when all were kept."""

    faults: int
    problem: str | None


def attempt(step: Step, fault: str, seed: int, folder: Path) -> Trial:
    """Run a trial in `folder`, which is made and removed.

    Raises:
        NotPossible: this machine cannot bring the fault about.
    """
    faults = 1
    folder.mkdir(parents=True)
    try:
        with FAULTS[fault](step, folder, Random(f"{step.name} {fault} {seed}")) as disturbed:
            faults = disturbed.faults
            _go_on(step, disturbed)
        return Trial(faults, None)
    except Broken as error:
        return Trial(faults, str(error))
    finally:
        shutil.rmtree(folder)


def _go_on(step: Step, disturbed: Disturbed) -> None:
    output = disturbed.output
    before = step.finished(output)
    door = step.start(output, disturbed.environment)
    if door.wait():
        raise Broken(f"it does not go on: {door.errors[-2000:]}")
    _compare(step.expected, step.content(output))
    left = [path.name for path in output.rglob("*.tmp")]
    if left:
        raise Broken(f"temporary files are left: {left}")
    _check_summary(step, output, door, before)


def _compare(expected: dict[str, Any], found: dict[str, Any]) -> None:
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            one, other = repr(expected.get(name)), repr(found.get(name))
            place = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
            around = slice(max(0, place - 80), place + 80)
            raise Broken(f"{name}: undisturbed {one[around]!r}, disturbed {other[around]!r}")


def _check_summary(step: Step, output: Path, door: Door, before: int) -> None:
    counted = step.counted(output, door)
    right = Count(before, step.finished(output) - before)
    if counted is not None and counted != right:
        raise Broken(f"the summary says {counted}, right is {right}")
