"""Materials of the demo world as textures: brightness maps that are laid over a painted shape."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating]


class Texture(NamedTuple):
    """`shade` multiplies the paint, `shine` is white light added (0-1), `wash` takes colour out of it (0-1)."""

    shade: Array
    shine: Array
    wash: float = 0.0


def apply_material(pixels: Array, painted: Array, texture: Texture) -> Array:
    """Lay `texture` over `pixels` (height, width, 3) where they carry the object's own paint (`painted`, 0-1)."""
    amount = np.clip(painted, 0, 1)
    pixels = pixels * (1 + amount * (texture.shade - 1))[..., None]
    if texture.wash:
        pixels += (amount * texture.wash)[..., None] * (pixels.mean(axis=2, keepdims=True) * 0.5 + 105 - pixels)
    return pixels + (amount * texture.shine)[..., None] * 255


@lru_cache(maxsize=16)
def material_maps(material: str, side: int) -> Texture:
    """The texture of `material` for an icon of `side` pixels."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    dark = np.zeros((side, side), np.float32)
    return _MAKERS[material](x, y, dark)


def _plain(x: Array, y: Array, dark: Array) -> Texture:
    return Texture(dark + 1, 0.32 * _spot(x, y, 0.36, 0.3, 0.11))


def _wooden(x: Array, y: Array, dark: Array) -> Texture:
    """Wavy grain around a knot."""
    waves = 0.035 * np.sin(5 * y + 1) + 0.02 * np.sin(13 * y)
    knot = 0.14 * np.exp(-(((x - 0.56) / 0.12) ** 2) - ((y - 0.58) / 0.2) ** 2)
    grain = np.sin(2 * np.pi * 9 * (x + waves + knot))
    fine = np.sin(2 * np.pi * 31 * (x + waves + knot))
    return Texture(0.83 + 0.21 * grain + 0.06 * fine, dark)


def _metal(x: Array, y: Array, dark: Array) -> Texture:
    """Hard bands of light across, as on polished steel."""
    along = x + 0.45 * y
    bands = np.abs(np.sin(2 * np.pi * 1.5 * along))
    shine = 0.6 * np.clip(np.cos(2 * np.pi * 1.5 * (along - 0.42)), 0, 1) ** 6
    return Texture(0.55 + 0.5 * bands, shine, 0.35)


def _glass(x: Array, y: Array, dark: Array) -> Texture:
    """Pale, with two slanting reflections and light inside."""
    slant = x + 0.6 * y
    streaks = np.exp(-(((slant - 0.52) / 0.045) ** 2)) + 0.7 * np.exp(-(((slant - 0.66) / 0.02) ** 2))
    inside = 0.25 * _spot(x, y, 0.55, 0.66, 0.22)
    return Texture(dark + 1.04, 0.5 * streaks + 0.7 * inside + 0.03, 0.3)


def _stone(x: Array, y: Array, dark: Array) -> Texture:
    """Coarse mottles and dark grains."""
    rng = np.random.default_rng(17)
    coarse, grains = _noise(rng, dark.shape[0], 12), _noise(rng, dark.shape[0], 56)
    shade = 0.86 + 0.1 * coarse + 0.1 * grains - 0.4 * (grains > 0.9) + 0.3 * (grains < -0.9)
    return Texture(shade.clip(0.35, 1.3).astype(np.float32), dark, 0.4)


def _knitted(x: Array, y: Array, dark: Array) -> Texture:
    """Columns of V-shaped stitches."""
    column = x * 11
    slope = np.abs(column % 1 - 0.5)
    stitch = np.abs(np.sin(np.pi * (y * 14 + slope * 1.5)))
    gap = np.exp(-(((column % 1 - 0.5) / 0.07) ** 2)) + np.exp(-((((column + 0.5) % 1 - 0.5) / 0.06) ** 2))
    return Texture(0.62 + 0.46 * stitch - 0.22 * gap, dark)


def _mosaic(x: Array, y: Array, dark: Array) -> Texture:
    """Square tiles of different brightness with light joints between."""
    tiles = 9
    bright = np.random.default_rng(5).uniform(0.6, 1.25, (tiles, tiles)).astype(np.float32)
    column, row = np.minimum((x * tiles).astype(int), tiles - 1), np.minimum((y * tiles).astype(int), tiles - 1)
    joint = np.maximum(np.abs(x * tiles % 1 - 0.5), np.abs(y * tiles % 1 - 0.5)) > 0.42
    return Texture(bright[row, column], 0.5 * joint.astype(np.float32))


_MAKERS = {
    "plain": _plain,
    "wooden": _wooden,
    "metal": _metal,
    "glass": _glass,
    "stone": _stone,
    "knitted": _knitted,
    "mosaic": _mosaic,
}


def _spot(x: Array, y: Array, cx: float, cy: float, radius: float) -> Array:
    return np.exp(-(((x - cx) / radius) ** 2) - ((y - cy) / radius) ** 2)


def _noise(rng: np.random.Generator, side: int, cells: int) -> Array:
    """Smooth noise of about unit spread with `cells` cells across."""
    grid = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))
