"""Icons of the demo world: every kind of object as a few shaded shapes, cut out like a sticker.

A kind is drawn once into light maps, one per paint; the icon in a colour and material is then a weighted sum of them,
which takes two milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from dyneval.demo.shapes import SHAPES
from dyneval.demo.strokes import SIDE, mask_of
from dyneval.demo.textures import apply_material, material_maps
from dyneval.demo.vocabulary import COLOURS

Array = NDArray[np.floating]
_RIM = 4


class _Maps(NamedTuple):
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
def icon(kind: str, colour: str, material: str) -> Image.Image:
    """RGBA image, `SIDE` pixels a side, of one object with a white edge around it. Treat it as read-only."""
    maps = _light_maps(kind)
    base = np.array(COLOURS[colour], np.float32)
    paints = (base, base + (255 - base) * 0.45, base * 0.62)
    pixels = maps.fixed.copy()
    for weight, paint in zip((maps.main, maps.light, maps.dark), paints, strict=True):
        pixels += weight[..., None] * paint
    painted = maps.main + maps.light + maps.dark
    pixels = apply_material(pixels, painted, material_maps(material, SIDE))
    pixels += (maps.rim * 255)[..., None]
    alpha = maps.alpha + maps.rim
    straight = pixels / np.maximum(alpha, 1e-3)[..., None]
    return Image.fromarray(np.dstack([straight, alpha * 255]).clip(0, 255).astype(np.uint8), "RGBA")


@lru_cache(maxsize=64)
def _light_maps(kind: str) -> _Maps:
    """Lay the shapes of `kind` over each other, shaded as if lit from the top left."""
    weights = {paint: np.zeros((SIDE, SIDE), np.float32) for paint in ("main", "light", "dark")}
    fixed = np.zeros((SIDE, SIDE, 3), np.float32)
    covered = Image.new("L", (SIDE, SIDE))
    for shape in SHAPES[kind]:
        mask = mask_of(shape.draw)
        alpha, light = np.asarray(mask, np.float32) / 255, _shading(mask)
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
    return _Maps(weights["main"], weights["light"], weights["dark"], fixed, alpha, rim)


def _shading(mask: Image.Image) -> Array:
    """Brightness of a shape, about 0.6-1.25: a soft bevel, a darker edge, and a little less light further down."""
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(7)), np.float32) / 255
    bevel = np.roll(soft, (-5, -5), (0, 1)) - np.roll(soft, (5, 5), (0, 1))
    edge = np.asarray(mask.filter(ImageFilter.GaussianBlur(2)), np.float32) / 255
    down = np.linspace(0.06, -0.08, SIDE, dtype=np.float32)[:, None]
    return 1 + 0.55 * bevel + down - 0.5 * np.clip(0.95 - edge, 0, 1)
