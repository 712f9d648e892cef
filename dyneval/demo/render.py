"""Draws a scene with its quality faults: backdrop, objects as stickers with a soft shadow, then the damage.

What it draws must agree with the truth file, which is written from the same scene and faults: nothing is read back from
the picture.
"""

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
# Faults that change the sticker of one group. "cut_off" moves it instead (layout), a seam goes through all of them.
_MELTABLE = {"melted": damage.melt, "torn": damage.tear}


def render(
    scene: Scene, faults: Sequence[Fault], seed: str, size: int = 256
) -> tuple[Image.Image, dict[str, list[Place]]]:
    """Draw `scene`; the same arguments give the same bytes.

    Args:
        scene: what is to be seen.
        faults: the quality faults among them are drawn.
        seed: decides on layout, variant of the backdrop and the form of the damage.
        size: pixels a side.

    Returns:
        An RGB image, and the places of the objects of every group, by kind.

    Raises:
        ValueError: `size` is not within 64-1024.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE}-{MAX_SIZE} pixels, not {size}")
    rng = Random(seed)
    pixel_rng = np.random.default_rng(rng.getrandbits(64))
    image = backdrop(scene.setting, rng.randrange(VARIANTS), size).copy()
    places = lay_out(scene, faults, rng)
    # What stands lower is nearer, so it is drawn later and covers what is behind it.
    for group in sorted(scene.groups, key=lambda group: places[group.kind][-1].y):
        _draw_group(image, group, places[group.kind], faults, rng, pixel_rng)
    # Seam first, then blur, then noise, as damage of the picture would come before damage of the camera.
    severity = {fault.kind: fault.severity for fault in faults}
    for fault in faults:
        if fault.kind == "seam" and fault.target in places:
            first = places[fault.target][0]
            x = first.x + float(pixel_rng.uniform(-0.15, 0.15)) * first.side
            image = damage.seam(image, x, fault.severity, pixel_rng)
    if "blur" in severity:
        image = damage.blur(image, severity["blur"])
    if "noise" in severity:
        image = damage.noise(image, severity["noise"], pixel_rng)
    return image, places


def _draw_group(
    image: Image.Image,
    group: Group,
    places: Sequence[Place],
    faults: Sequence[Fault],
    rng: Random,
    pixel_rng: np.random.Generator,
) -> None:
    """Draw all objects of a group: one sticker, mirrored at random, each with a soft shadow."""
    sticker = icon(group.kind, group.colour)
    for fault in faults:
        if fault.target == group.kind and fault.kind in _MELTABLE:
            sticker = _MELTABLE[fault.kind](sticker, fault.severity, pixel_rng)
    side = max(4, round(places[0].side * image.width / (1 - 2 * PADDING)))
    sticker = sticker.resize((side, side), Image.Resampling.BICUBIC)
    versions = []
    for turned in (sticker, ImageOps.mirror(sticker)):
        soft = turned.getchannel("A").filter(ImageFilter.BoxBlur(side // 36 + 1))
        versions.append((turned, soft.point([value * 2 // 5 for value in range(256)])))  # two fifths as dark
    for place in places:
        left, top = round(place.x * image.width - side / 2), round(place.y * image.height - side / 2)
        picture, shadow = rng.choice(versions)
        drop = side // 36 + 1
        image.paste((24, 26, 40), (left + drop, top + 2 * drop), shadow)
        image.paste(picture, (left, top), picture)
