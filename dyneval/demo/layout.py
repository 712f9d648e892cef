"""Where the objects of a scene stand in the image, so that every relation of the scene holds.

The picture must show what the truth says. If "the cup is left of the ball" were drawn otherwise, every score about it
would be wrong. Groups stand in the cells of a small grid; a relation compares columns or rows of cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from random import Random

from dyneval.demo.faults import Fault
from dyneval.demo.scenes import Group, Scene

_MARGIN = 0.03
_LARGEST = 0.6
_SCALE = 0.9
"""Side of an object as a share of the space it has."""

Cell = tuple[int, int]
"""Column and row, counted from the top left."""


@dataclass(frozen=True, slots=True)
class Place:
    """Centre and side of one object, as fractions of the image side."""

    x: float
    y: float
    side: float


def lay_out(scene: Scene, faults: Sequence[Fault], rng: Random) -> dict[str, list[Place]]:
    """Return the places of the objects of every group, by kind; groups that are cut off stick out over an edge.

    Args:
        scene: whose relations hold in the layout.
        faults: of them those of the kind "cut_off" move their group.
        rng: the same state gives the same layout.

    Returns:
        Kind -> one place an object; {} for a scene without groups. Nothing is outside of the image but what is cut off.
    """
    if not scene.groups:
        return {}
    columns, rows, cells = _cells(scene, rng)
    places = {
        group.kind: _in_cell(group, cell, columns, rows, rng) for group, cell in zip(scene.groups, cells, strict=True)
    }
    for fault in faults:
        if fault.kind == "cut_off" and fault.target in places:
            places[fault.target] = _push_out(fault.target, places, fault.severity, rng)
    return places


# ---------------------------------------------------------------------------
# A grid cell for every group


def _cells(scene: Scene, rng: Random) -> tuple[int, int, list[Cell]]:
    """Return columns and rows of the smallest grid on which the relations hold, and a random cell for every group."""
    number = len(scene.groups)
    grids = [(c, r) for c, r in product(range(1, number + 1), repeat=2) if c * r >= number]
    for columns, rows in sorted(grids, key=lambda grid: (max(grid), grid[0] * grid[1], -grid[0])):
        free = list(product(range(columns), range(rows)))
        rng.shuffle(free)
        # All ways are tried, in the order of `free`; of three groups on nine cells there are 504.
        for cells in permutations(free, number):
            if _holds(scene, cells):
                return columns, rows, list(cells)
    raise AssertionError("a scene without contradictory relations fits on the largest grid")


def _holds(scene: Scene, cells: Sequence[Cell]) -> bool:
    """Whether all relations hold where the groups stand in these cells, one for each group."""
    at = {group.kind: cell for group, cell in zip(scene.groups, cells, strict=True)}
    for relation in scene.relations:
        axis = 0 if relation.name in ("left of", "right of") else 1
        subject, other = at[relation.subject][axis], at[relation.object][axis]
        before, after = (subject, other) if relation.name in ("left of", "above") else (other, subject)
        if before >= after:
            return False
    return True


# ---------------------------------------------------------------------------
# Objects in their cell


def _in_cell(group: Group, cell: Cell, columns: int, rows: int, rng: Random) -> list[Place]:
    """Set the objects of a group in rows that fill its cell as well as they can."""
    width, height = (1 - 2 * _MARGIN) / columns, (1 - 2 * _MARGIN) / rows
    # How many to set side by side: first that which leaves each the most space, then the fullest last row.
    fits = []
    for number in range(1, group.count + 1):
        lines = math.ceil(group.count / number)
        fits.append((min(width / number, height / lines), group.count - number * lines, number))
    space, _, across = max(fits)
    side = min(space * _SCALE, _LARGEST)
    step = min(space, side * 1.12)
    lines = math.ceil(group.count / across)
    slack_x, slack_y = (max(0.0, width - across * step) / 2, max(0.0, height - lines * step) / 2)
    left = _MARGIN + (cell[0] + 0.5) * width + rng.uniform(-0.6, 0.6) * slack_x
    # In a single row things stand on the ground rather than float halfway up.
    top = (
        _MARGIN + (cell[1] + 0.5) * height + (rng.uniform(0.2, 0.7) if rows == 1 else rng.uniform(-0.5, 0.5)) * slack_y
    )
    places = []
    for i in range(group.count):
        row, column = divmod(i, across)
        in_row = min(across, group.count - row * across)
        x = left + (column - (in_row - 1) / 2) * step
        places.append(Place(x, top + (row - (lines - 1) / 2) * step, side))
    return places


def _push_out(kind: str, places: dict[str, list[Place]], severity: float, rng: Random) -> list[Place]:
    """Move a group over the edge that is nearest without passing another group; `severity` tells how far."""
    own = places[kind]
    edges = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    rng.shuffle(edges)  # of two edges that are equally good the first is taken
    found = []
    for order, (dx, dy) in enumerate(edges):
        middle = {k: sum(p.x * dx + p.y * dy for p in group) / len(group) for k, group in places.items()}
        passed = sum(value > middle[kind] + 0.1 for other, value in middle.items() if other != kind)
        outermost = max(place.x * dx + place.y * dy + place.side / 2 for place in own)
        gap = (1.0 if dx + dy > 0 else 0.0) - outermost
        found.append((passed, gap, order, dx, dy))
    _, gap, _, dx, dy = min(found)
    shift = gap + own[0].side * (0.15 + 0.5 * severity)
    return [replace(place, x=place.x + dx * shift, y=place.y + dy * shift) for place in own]
