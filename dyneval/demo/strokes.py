"""Strokes that fill a shape in a mask; coordinates in a unit square, x to the right, y down.

The drawings of `shapes` are made of these. Each stroke returns a function that draws, so that a table of drawings is
data which costs nothing until a kind is needed. The unit square lies inside the icon with `PADDING` around it, where a
sticker has its edge and melting shapes go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from dyneval.demo.vocabulary import RGB

SIDE = 168
"""Width and height of an icon in pixels; it is scaled to its place in the image."""
PADDING = 0.07
"""Empty edge of an icon, as a fraction of its side."""
# Masks are drawn three times as large and reduced, since Pillow draws without soft edges.
_FINE = 3 * SIDE

Point = tuple[float, float]
Draw = Callable[[ImageDraw.ImageDraw], None]
Paint = str | RGB
"""The object's colour as it is ("main"), lighter ("light") or darker ("dark"), or a fixed colour."""


class Shape(NamedTuple):
    """A shape and the paint it is filled with."""

    paint: Paint
    draw: Draw


def mask_of(draw: Draw) -> Image.Image:
    """Return the shape that `draw` fills, as an 8-bit mask of `SIDE` pixels with soft edges."""
    mask = Image.new("L", (_FINE, _FINE))
    draw(ImageDraw.Draw(mask))
    return mask.reduce(_FINE // SIDE)


def oval(x0: float, y0: float, x1: float, y1: float) -> Draw:
    """Draw an ellipse in the box (x0, y0)-(x1, y1)."""
    return lambda pen: pen.ellipse(_px(x0, y0, x1, y1), fill=255)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.03) -> Draw:
    """Draw a rectangle with the corners (x0, y0)-(x1, y1), rounded by `radius`, in the same unit."""
    return lambda pen: pen.rounded_rectangle(_px(x0, y0, x1, y1), radius=radius * _UNIT, fill=255)


def poly(*points: Point) -> Draw:
    """Draw a polygon with straight edges."""
    return lambda pen: pen.polygon(_px(*(v for point in points for v in point)), fill=255)


def blob(*points: Point) -> Draw:
    """Draw a smooth closed curve through the points (Catmull-Rom)."""
    return poly(*_smooth(points))


def line(width: float, *points: Point) -> Draw:
    """Draw a line of the given width through the points, smooth where there are more than two, with round ends."""

    def draw(pen: ImageDraw.ImageDraw) -> None:
        # Pieces of straight line, and a disc at each joint: Pillow's own joints leave gaps at a turn.
        path = points if len(points) == 2 else _smooth(points, closed=False)
        for (ax, ay), (bx, by) in pairwise(path):
            pen.line(_px(ax, ay, bx, by), fill=255, width=round(width * _UNIT))
        for x, y in path:
            pen.ellipse(_px(x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)

    return draw


def star(cx: float, cy: float, outer: float, inner: float, tips: int = 5) -> Draw:
    """Draw a star around (cx, cy) with its first tip at the top.

    Args:
        cx: of the middle.
        cy: of the middle.
        outer: distance of the tips from the middle.
        inner: distance of the corners between them.
        tips: how many.
    """
    turn = math.pi / tips
    radii = (outer, inner)
    return poly(
        *((cx + radii[i % 2] * math.sin(i * turn), cy - radii[i % 2] * math.cos(i * turn)) for i in range(2 * tips))
    )


def band(cx: float, cy: float, radius: float, top: float, bottom: float, sag: float) -> Draw:
    """Draw the part of a circle between two curves from rim to rim.

    Args:
        cx: of the circle's middle.
        cy: of the circle's middle.
        radius: of the circle.
        top: height at which the upper curve meets the rim, less than `radius` from `cy`.
        bottom: the same of the lower curve.
        sag: how much lower both curves are in the middle than at the rim.
    """
    upper, lower = (
        [
            (cx + t * math.sqrt(radius**2 - (y - cy) ** 2), y + sag * (1 - t * t))  # a parabola from rim to rim
            for t in np.linspace(-1, 1, 25)
        ]
        for y in (top, bottom)
    )
    rim = math.asin((top - cy) / radius), math.asin((bottom - cy) / radius)
    arc = [(cx + radius * math.cos(a), cy + radius * math.sin(a)) for a in np.linspace(*rim, 12)]
    back = [(2 * cx - x, y) for x, y in reversed(arc)]
    return poly(*upper, *arc, *reversed(lower), *back)


_UNIT = (1 - 2 * PADDING) * _FINE
"""Pixels of a mask that one unit of the square has."""


def _px(*values: float) -> list[float]:
    """Return coordinates of the unit square as pixels of a mask."""
    return [PADDING * _FINE + value * _UNIT for value in values]


def _smooth(points: Sequence[Point], closed: bool = True, steps: int = 10) -> list[Point]:
    """Return a Catmull-Rom curve through the points, `steps` points for each piece; an open one keeps its ends."""
    n = len(points)
    ring = [points[i % n] if closed else points[min(max(i, 0), n - 1)] for i in range(-1, n + 2)]
    curve = []
    for i in range(n if closed else n - 1):
        p0, p1, p2, p3 = (np.array(p) for p in ring[i : i + 4])
        for t in np.linspace(0, 1, steps, endpoint=False):
            x, y = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                          + (3 * p1 - p0 - 3 * p2 + p3) * t**3)  # fmt: skip
            curve.append((float(x), float(y)))
    return curve if closed else [*curve, points[-1]]
