"""Draws a scene with its quality faults: backdrop, objects as stickers with a soft shadow, then the damage."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from dyneval.demo import faults as damage
from dyneval.demo.backdrops import VARIANTS, backdrop
from dyneval.demo.faults import Fault
from dyneval.demo.layout import Place, lay_out
from dyneval.demo.scenes import Group, Scene
from dyneval.demo.shapes import icon
from dyneval.demo.strokes import PADDING

MIN_SIZE, MAX_SIZE = 64, 1024
_MELTABLE = {"melted": damage.melt, "torn": damage.tear}


def render(scene: Scene, faults: Sequence[Fault], seed: str, size: int = 256) -> Image.Image:
    """RGB image of `scene`, `size` pixels a side, with the quality faults among `faults`; same arguments, same bytes.

    Raises:
        ValueError: `size` is not within 64-1024.
    """
    return render_with_places(scene, faults, seed, size)[0]


def render_with_places(
    scene: Scene, faults: Sequence[Fault], seed: str, size: int = 256
) -> tuple[Image.Image, dict[str, list[Place]]]:
    """As `render`, and where the objects of every group stand, by kind."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE}-{MAX_SIZE} pixels, not {size}")
    rng = Random(seed)
    pixel_rng = np.random.default_rng(rng.getrandbits(64))
    image = backdrop(scene.setting, rng.randrange(VARIANTS), size).copy()
    places = lay_out(scene, faults, rng)
    for group in sorted(scene.groups, key=lambda group: places[group.kind][-1].y):
        _draw_group(image, group, places[group.kind], faults, rng, pixel_rng)
    return _damaged(image, faults, places, pixel_rng), places


def _draw_group(
    image: Image.Image,
    group: Group,
    places: Sequence[Place],
    faults: Sequence[Fault],
    rng: Random,
    pixel_rng: np.random.Generator,
) -> None:
    sticker = icon(group.kind, group.colour)
    for fault in faults:
        if fault.target == group.kind and fault.kind in _MELTABLE:
            sticker = _MELTABLE[fault.kind](sticker, fault.severity, pixel_rng)
    side = max(4, round(places[0].side * image.width / (1 - 2 * PADDING)))
    sticker = sticker.resize((side, side), Image.Resampling.BICUBIC)
    versions = [_with_shadow(turned) for turned in (sticker, ImageOps.mirror(sticker))]
    for place in places:
        left, top = round(place.x * image.width - side / 2), round(place.y * image.height - side / 2)
        picture, shadow = rng.choice(versions)
        drop = side // 36 + 1
        image.paste((24, 26, 40), (left + drop, top + 2 * drop), shadow)
        image.paste(picture, (left, top), picture)


def _with_shadow(sticker: Image.Image) -> tuple[Image.Image, Image.Image]:
    """The sticker and the mask of a soft shadow of it."""
    soft = sticker.getchannel("A").filter(ImageFilter.BoxBlur(sticker.width // 36 + 1))
    return sticker, soft.point([value * 2 // 5 for value in range(256)])


def _damaged(
    image: Image.Image, faults: Sequence[Fault], places: dict[str, list[Place]], rng: np.random.Generator
) -> Image.Image:
    """Seam first, then blur, then noise, as damage of the picture would come before damage of the camera."""
    severity = {fault.kind: fault.severity for fault in faults}
    for fault in faults:
        if fault.kind == "seam" and fault.target in places:
            first = places[fault.target][0]
            image = damage.seam(image, first.x + float(rng.uniform(-0.15, 0.15)) * first.side, fault.severity, rng)
    if "blur" in severity:
        image = damage.blur(image, severity["blur"])
    if "noise" in severity:
        image = damage.noise(image, severity["noise"], rng)
    return image
