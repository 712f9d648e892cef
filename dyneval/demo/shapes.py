"""Objects of the demo world: each kind put together from shaded shapes, back to front, and cut out like a sticker.

Coordinates lie in a unit square, y down. A kind is drawn once into light maps, one per paint; the icon in a colour is
then a weighted sum of them, which takes two milliseconds. The shipped students learned these drawings; a kind that
looks otherwise is one that they have never seen.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from dyneval.demo.strokes import SIDE, Shape, band, blob, box, line, mask_of, oval, poly, star
from dyneval.demo.vocabulary import COLOURS

Array = NDArray[np.floating]
_RIM = 4
"""Width of a sticker's white edge, in pixels of the icon."""

BARK, INK, IVORY, LEAF, STEEL, GLOW = (
    (128, 84, 52), (48, 46, 56), (250, 244, 226), (86, 156, 74), (176, 184, 196), (255, 226, 130),
)  # fmt: skip

SHAPES: dict[str, tuple[Shape, ...]] = {
    "apple": (
        Shape(BARK, line(0.035, (0.5, 0.3), (0.52, 0.2), (0.58, 0.11))),
        Shape("main", blob((0.5, 0.29), (0.66, 0.24), (0.84, 0.34), (0.87, 0.55), (0.76, 0.8), (0.6, 0.91), (0.5, 0.88),
                           (0.4, 0.91), (0.24, 0.8), (0.13, 0.55), (0.16, 0.34), (0.34, 0.24))),
        Shape(LEAF, blob((0.55, 0.22), (0.66, 0.1), (0.82, 0.1), (0.74, 0.22))),
    ),
    "ball": (
        Shape("main", oval(0.1, 0.1, 0.9, 0.9)),
        Shape("light", band(0.5, 0.5, 0.4, 0.36, 0.58, 0.1)),
    ),
    "balloon": (
        Shape(INK, line(0.016, (0.5, 0.74), (0.46, 0.81), (0.54, 0.88), (0.5, 0.95))),
        Shape("dark", poly((0.5, 0.69), (0.56, 0.78), (0.44, 0.78))),
        Shape("main", blob((0.5, 0.05), (0.74, 0.13), (0.83, 0.36), (0.7, 0.6), (0.5, 0.74), (0.3, 0.6), (0.17, 0.36),
                           (0.26, 0.13))),
    ),
    "bird": (
        Shape("dark", poly((0.2, 0.5), (0.03, 0.66), (0.06, 0.78), (0.3, 0.7))),
        Shape(GLOW, line(0.03, (0.47, 0.78), (0.45, 0.93))),
        Shape(GLOW, line(0.03, (0.57, 0.78), (0.57, 0.93))),
        Shape((240, 150, 50), poly((0.84, 0.27), (0.98, 0.34), (0.84, 0.4))),
        Shape("main", blob((0.16, 0.56), (0.36, 0.44), (0.53, 0.22), (0.7, 0.12), (0.86, 0.22), (0.86, 0.46),
                           (0.77, 0.7), (0.56, 0.83), (0.32, 0.78))),
        Shape("light", blob((0.26, 0.56), (0.48, 0.46), (0.63, 0.5), (0.58, 0.66), (0.4, 0.71))),
        Shape(IVORY, oval(0.68, 0.22, 0.8, 0.34)),
        Shape(INK, oval(0.72, 0.25, 0.785, 0.315)),
    ),
    "boat": (
        Shape(BARK, line(0.03, (0.5, 0.08), (0.5, 0.66))),
        Shape("light", poly((0.53, 0.1), (0.86, 0.56), (0.53, 0.56))),
        Shape(IVORY, poly((0.47, 0.2), (0.47, 0.56), (0.2, 0.56))),
        Shape("main", blob((0.06, 0.62), (0.3, 0.63), (0.7, 0.63), (0.94, 0.62), (0.86, 0.78), (0.74, 0.88),
                           (0.5, 0.89), (0.26, 0.88), (0.14, 0.78))),
        Shape("dark", box(0.1, 0.63, 0.9, 0.69)),
    ),
    "book": (
        Shape(IVORY, box(0.2, 0.84, 0.84, 0.93, 0.02)),
        Shape(IVORY, box(0.77, 0.12, 0.85, 0.92, 0.02)),
        Shape("main", box(0.14, 0.07, 0.8, 0.87, 0.04)),
        Shape("dark", box(0.14, 0.07, 0.26, 0.92, 0.04)),
        Shape("light", box(0.34, 0.16, 0.72, 0.2, 0.02)),
        Shape("light", box(0.34, 0.74, 0.72, 0.78, 0.02)),
    ),
    "car": (
        Shape("main", blob((0.2, 0.5), (0.3, 0.29), (0.45, 0.24), (0.62, 0.26), (0.78, 0.5))),
        Shape((190, 226, 245), blob((0.29, 0.48), (0.35, 0.34), (0.47, 0.31), (0.48, 0.48))),
        Shape((190, 226, 245), blob((0.53, 0.48), (0.53, 0.31), (0.62, 0.33), (0.71, 0.48))),
        Shape("main", box(0.05, 0.46, 0.95, 0.75, 0.11)),
        Shape("dark", box(0.06, 0.67, 0.94, 0.75, 0.04)),
        Shape(GLOW, oval(0.86, 0.51, 0.94, 0.61)),
        Shape(INK, oval(0.14, 0.61, 0.38, 0.85)),
        Shape(INK, oval(0.62, 0.61, 0.86, 0.85)),
        Shape(STEEL, oval(0.2, 0.67, 0.32, 0.79)),
        Shape(STEEL, oval(0.68, 0.67, 0.8, 0.79)),
    ),
    "cat": (
        Shape("dark", line(0.09, (0.68, 0.86), (0.88, 0.82), (0.9, 0.62), (0.8, 0.54))),
        Shape("main", blob((0.42, 0.44), (0.64, 0.54), (0.73, 0.76), (0.68, 0.92), (0.24, 0.92), (0.2, 0.74))),
        Shape("main", poly((0.14, 0.07), (0.42, 0.17), (0.18, 0.38))),
        Shape("main", poly((0.74, 0.07), (0.46, 0.17), (0.7, 0.38))),
        Shape((246, 170, 180), poly((0.2, 0.14), (0.34, 0.19), (0.22, 0.3))),
        Shape((246, 170, 180), poly((0.68, 0.14), (0.54, 0.19), (0.66, 0.3))),
        Shape("main", blob((0.44, 0.14), (0.66, 0.21), (0.76, 0.37), (0.68, 0.53), (0.44, 0.59), (0.2, 0.53),
                           (0.12, 0.37), (0.22, 0.21))),
        Shape("light", oval(0.34, 0.42, 0.54, 0.56)),
        Shape(GLOW, oval(0.24, 0.29, 0.38, 0.43)),
        Shape(GLOW, oval(0.5, 0.29, 0.64, 0.43)),
        Shape(INK, oval(0.285, 0.3, 0.345, 0.42)),
        Shape(INK, oval(0.535, 0.3, 0.595, 0.42)),
        Shape((232, 120, 140), poly((0.4, 0.44), (0.48, 0.44), (0.44, 0.49))),
        Shape("light", oval(0.28, 0.82, 0.43, 0.94)),
        Shape("light", oval(0.46, 0.82, 0.61, 0.94)),
    ),
    "cube": (
        Shape("light", poly((0.08, 0.33), (0.3, 0.1), (0.92, 0.1), (0.7, 0.33))),
        Shape("dark", poly((0.7, 0.33), (0.92, 0.1), (0.92, 0.68), (0.7, 0.92))),
        Shape("main", poly((0.08, 0.33), (0.7, 0.33), (0.7, 0.92), (0.08, 0.92))),
    ),
    "cup": (
        Shape("dark", line(0.085, (0.7, 0.38), (0.86, 0.36), (0.91, 0.5), (0.84, 0.64), (0.66, 0.7))),
        Shape("main", blob((0.13, 0.26), (0.75, 0.26), (0.74, 0.56), (0.67, 0.82), (0.56, 0.9), (0.32, 0.9),
                           (0.21, 0.82), (0.14, 0.56))),
        Shape("light", oval(0.11, 0.16, 0.77, 0.36)),
        Shape((92, 58, 42), oval(0.16, 0.2, 0.72, 0.33)),
    ),
    "fish": (
        Shape("dark", blob((0.26, 0.5), (0.04, 0.26), (0.1, 0.5), (0.04, 0.76))),
        Shape("dark", blob((0.38, 0.32), (0.5, 0.14), (0.68, 0.2), (0.66, 0.34))),
        Shape("dark", blob((0.46, 0.66), (0.5, 0.84), (0.62, 0.82), (0.62, 0.66))),
        Shape("main", blob((0.18, 0.5), (0.4, 0.29), (0.66, 0.25), (0.88, 0.38), (0.95, 0.52), (0.86, 0.64),
                           (0.64, 0.75), (0.4, 0.7))),
        Shape("light", line(0.045, (0.64, 0.3), (0.58, 0.5), (0.64, 0.7))),
        Shape("light", line(0.045, (0.48, 0.31), (0.42, 0.5), (0.48, 0.69))),
        Shape(IVORY, oval(0.73, 0.37, 0.86, 0.5)),
        Shape(INK, oval(0.775, 0.4, 0.845, 0.47)),
    ),
    "flower": (
        Shape(LEAF, line(0.045, (0.5, 0.5), (0.52, 0.75), (0.5, 0.95))),
        Shape(LEAF, blob((0.51, 0.83), (0.6, 0.66), (0.8, 0.64), (0.7, 0.8))),
        Shape(LEAF, blob((0.5, 0.9), (0.38, 0.74), (0.2, 0.74), (0.3, 0.88))),
        *(Shape("main", oval(0.5 + dx - 0.145, 0.35 + dy - 0.145, 0.5 + dx + 0.145, 0.35 + dy + 0.145))
          for dx, dy in ((0, -0.19), (0.18, -0.06), (0.11, 0.155), (-0.11, 0.155), (-0.18, -0.06))),
        Shape(GLOW, oval(0.39, 0.24, 0.61, 0.46)),
    ),
    "house": (
        Shape("dark", box(0.66, 0.1, 0.78, 0.36, 0.01)),
        Shape("main", box(0.17, 0.42, 0.83, 0.92, 0.01)),
        Shape("dark", poly((0.05, 0.47), (0.5, 0.07), (0.95, 0.47))),
        Shape(BARK, box(0.42, 0.62, 0.59, 0.92, 0.02)),
        Shape(GLOW, oval(0.54, 0.75, 0.57, 0.78)),
        Shape(GLOW, box(0.23, 0.54, 0.36, 0.69, 0.01)),
        Shape(GLOW, box(0.65, 0.54, 0.78, 0.69, 0.01)),
        Shape(BARK, box(0.288, 0.54, 0.302, 0.69, 0)),
        Shape(BARK, box(0.708, 0.54, 0.722, 0.69, 0)),
    ),
    "lamp": (
        Shape((255, 240, 170), oval(0.4, 0.42, 0.6, 0.6)),
        Shape(STEEL, box(0.47, 0.5, 0.53, 0.88, 0.01)),
        Shape("dark", blob((0.28, 0.93), (0.34, 0.85), (0.5, 0.83), (0.66, 0.85), (0.72, 0.93))),
        Shape("main", poly((0.34, 0.08), (0.66, 0.08), (0.87, 0.52), (0.13, 0.52))),
        Shape("light", box(0.13, 0.48, 0.87, 0.54, 0.02)),
    ),
    "mushroom": (
        Shape(IVORY, blob((0.39, 0.5), (0.61, 0.5), (0.63, 0.74), (0.69, 0.9), (0.5, 0.94), (0.31, 0.9), (0.37, 0.74))),
        Shape("main", blob((0.06, 0.52), (0.14, 0.28), (0.34, 0.12), (0.5, 0.09), (0.66, 0.12), (0.86, 0.28),
                           (0.94, 0.52), (0.74, 0.58), (0.5, 0.6), (0.26, 0.58))),
        Shape(IVORY, oval(0.24, 0.3, 0.38, 0.44)),
        Shape(IVORY, oval(0.47, 0.17, 0.62, 0.31)),
        Shape(IVORY, oval(0.66, 0.36, 0.79, 0.48)),
        Shape(IVORY, oval(0.46, 0.42, 0.56, 0.51)),
    ),
    "rocket": (
        Shape((255, 150, 50), blob((0.42, 0.8), (0.58, 0.8), (0.56, 0.9), (0.5, 0.97), (0.44, 0.9))),
        Shape("dark", blob((0.36, 0.56), (0.16, 0.72), (0.16, 0.88), (0.38, 0.78))),
        Shape("dark", blob((0.64, 0.56), (0.84, 0.72), (0.84, 0.88), (0.62, 0.78))),
        Shape("main", blob((0.5, 0.03), (0.63, 0.17), (0.7, 0.4), (0.67, 0.68), (0.6, 0.82), (0.4, 0.82), (0.33, 0.68),
                           (0.3, 0.4), (0.37, 0.17))),
        Shape("light", box(0.33, 0.62, 0.67, 0.68, 0.01)),
        Shape(STEEL, oval(0.38, 0.28, 0.62, 0.52)),
        Shape((150, 210, 240), oval(0.42, 0.32, 0.58, 0.48)),
    ),
    "sign": (
        Shape(BARK, box(0.46, 0.5, 0.54, 0.95, 0.01)),
        Shape("main", box(0.05, 0.13, 0.95, 0.6, 0.06)),
        Shape("light", box(0.09, 0.17, 0.91, 0.56, 0.04)),
        Shape("main", box(0.115, 0.195, 0.885, 0.535, 0.03)),
    ),
    "star": (
        Shape("main", star(0.5, 0.53, 0.48, 0.21)),
        Shape("light", star(0.5, 0.53, 0.24, 0.105)),
    ),
    "tree": (
        Shape(BARK, blob((0.44, 0.55), (0.56, 0.55), (0.57, 0.8), (0.64, 0.94), (0.36, 0.94), (0.43, 0.8))),
        Shape("dark", oval(0.14, 0.34, 0.54, 0.7)),
        Shape("dark", oval(0.46, 0.34, 0.86, 0.7)),
        Shape("main", oval(0.2, 0.18, 0.6, 0.56)),
        Shape("main", oval(0.42, 0.2, 0.8, 0.56)),
        Shape("main", oval(0.3, 0.05, 0.7, 0.42)),
        Shape("main", oval(0.32, 0.32, 0.68, 0.66)),
    ),
    "umbrella": (
        Shape(BARK, line(0.04, (0.5, 0.1), (0.5, 0.84))),
        Shape(BARK, line(0.04, (0.5, 0.82), (0.53, 0.91), (0.6, 0.91), (0.63, 0.82))),
        Shape("main", blob((0.5, 0.1), (0.76, 0.18), (0.92, 0.38), (0.95, 0.53), (0.8, 0.48), (0.66, 0.53), (0.5, 0.48),
                           (0.34, 0.53), (0.2, 0.48), (0.05, 0.53), (0.08, 0.38), (0.24, 0.18))),
        Shape("light", blob((0.5, 0.11), (0.6, 0.26), (0.655, 0.52), (0.5, 0.48), (0.345, 0.52), (0.4, 0.26))),
    ),
}  # fmt: skip


class _LightMaps(NamedTuple):
    """Light maps of one kind: how much each paint adds to each pixel, and what is covered."""

    main: Array
    light: Array
    dark: Array
    fixed: Array
    """Fixed colours, three channels, 0-255."""
    alpha: Array
    rim: Array
    """White edge of the sticker, outside of `alpha`."""


@lru_cache(maxsize=256)
def icon(kind: str, colour: str) -> Image.Image:
    """Return an RGBA image, `SIDE` pixels a side, of one object with a white edge around it.

    All callers share it: copy it before drawing on it.

    Args:
        kind: a key of SHAPES.
        colour: a key of `vocabulary.COLOURS`.
    """
    maps = _light_maps(kind)
    base = np.array(COLOURS[colour], np.float32)
    # As it is, towards white, towards black.
    paints = (base, base + (255 - base) * 0.45, base * 0.62)
    pixels = maps.fixed.copy()
    for weight, paint in zip((maps.main, maps.light, maps.dark), paints, strict=True):
        pixels += weight[..., None] * paint
    pixels += (maps.rim * 255)[..., None]
    alpha = maps.alpha + maps.rim
    # The sums are multiplied by alpha, and PNG's colours are not. Where nothing is drawn both are 0.
    straight = pixels / np.maximum(alpha, 1e-3)[..., None]
    return Image.fromarray(np.dstack([straight, alpha * 255]).clip(0, 255).astype(np.uint8), "RGBA")


@lru_cache(maxsize=64)
def _light_maps(kind: str) -> _LightMaps:
    """Lay the shapes of `kind` over each other, shaded as if lit from the top left."""
    weights = {paint: np.zeros((SIDE, SIDE), np.float32) for paint in ("main", "light", "dark")}
    fixed = np.zeros((SIDE, SIDE, 3), np.float32)
    covered = Image.new("L", (SIDE, SIDE))
    for shape in SHAPES[kind]:
        mask = mask_of(shape.draw)
        alpha, light = np.asarray(mask, np.float32) / 255, _shading(mask)
        # What lies below this shape shows only as far as the shape is transparent.
        for layer in (*weights.values(), fixed):
            layer *= (1 - alpha)[..., None] if layer.ndim == 3 else 1 - alpha
        if isinstance(shape.paint, str):
            weights[shape.paint] += alpha * light
        else:
            fixed += (alpha * light)[..., None] * np.array(shape.paint, np.float32)
        covered = ImageChops.lighter(covered, mask)
    alpha = np.asarray(covered, np.float32) / 255
    wide = covered.filter(ImageFilter.MaxFilter(2 * _RIM + 1)).filter(ImageFilter.GaussianBlur(1.2))
    rim = np.clip(np.asarray(wide, np.float32) / 255 - alpha, 0, 1)
    return _LightMaps(weights["main"], weights["light"], weights["dark"], fixed, alpha, rim)


def _shading(mask: Image.Image) -> Array:
    """Return the brightness of a shape, about 0.6-1.25: a soft bevel, a darker edge, less light further down."""
    # Light from the top left: the blurred shape, moved against itself, is bright on one side and dark on the other.
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(7)), np.float32) / 255
    bevel = np.roll(soft, (-5, -5), (0, 1)) - np.roll(soft, (5, 5), (0, 1))
    edge = np.asarray(mask.filter(ImageFilter.GaussianBlur(2)), np.float32) / 255
    down = np.linspace(0.06, -0.08, SIDE, dtype=np.float32)[:, None]
    return 1 + 0.55 * bevel + down - 0.5 * np.clip(0.95 - edge, 0, 1)
