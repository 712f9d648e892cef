"""Draws a scene with its quality faults: backdrop, objects as stickers with a soft shadow, then the damage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from dyneval.demo import damage
from dyneval.demo.backdrops import VARIANTS, backdrop
from dyneval.demo.faults import Fault
from dyneval.demo.icons import icon
from dyneval.demo.layout import Place, lay_out
from dyneval.demo.scenes import Group, Scene
from dyneval.demo.shapes import LABEL_BOXES
from dyneval.demo.strokes import PADDING, on_icon

MIN_SIZE, MAX_SIZE = 64, 1024
_MELTABLE = {"melted": damage.melt, "torn": damage.tear}


def render(scene: Scene, faults: Sequence[Fault], seed: str, size: int = 256) -> Image.Image:
    """RGB image of `scene`, `size` pixels a side, with the quality faults among `faults`; same arguments, same bytes.

    Raises:
        ValueError: `size` is not within 64-1024.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size must be {MIN_SIZE}-{MAX_SIZE} pixels, not {size}")
    rng = Random(seed)
    pixel_rng = np.random.default_rng(rng.getrandbits(64))
    image = backdrop(scene.setting, rng.randrange(VARIANTS), size).copy()
    places = lay_out(scene, faults, rng)
    for group in sorted(scene.groups, key=lambda group: places[group.kind][-1].y):
        _draw_group(image, group, places[group.kind], faults, rng, pixel_rng)
    return _damaged(image, faults, places, pixel_rng)


def _draw_group(
    image: Image.Image,
    group: Group,
    places: Sequence[Place],
    faults: Sequence[Fault],
    rng: Random,
    pixel_rng: np.random.Generator,
) -> None:
    sticker = icon(group.kind, group.colour, group.material)
    if group.label:
        sticker = _with_label(sticker, group.kind, group.label)
    for fault in faults:
        if fault.target == group.kind and fault.kind in _MELTABLE:
            sticker = _MELTABLE[fault.kind](sticker, fault.severity, pixel_rng)
    side = max(4, round(places[0].side * image.width / (1 - 2 * PADDING)))
    sticker = sticker.resize((side, side), Image.Resampling.BICUBIC)
    # Text must not be mirrored.
    versions = [_with_shadow(turned) for turned in (sticker, sticker if group.label else ImageOps.mirror(sticker))]
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


def _with_label(sticker: Image.Image, kind: str, label: str) -> Image.Image:
    """Write `label` on a paper strip across the object."""
    labelled = sticker.copy()
    x0, y0, x1, y1 = map(round, on_icon(*LABEL_BOXES[kind]))
    pen = ImageDraw.Draw(labelled)
    pen.rounded_rectangle((x0, y0, x1, y1), radius=6, fill=(255, 253, 244, 255), outline=(70, 62, 60, 255), width=2)
    pen.text(
        ((x0 + x1) / 2, (y0 + y1) / 2),
        label,
        fill=(36, 32, 36, 255),
        font=_fitting_font(label, x1 - x0 - 12, y1 - y0 - 6),
        anchor="mm",
        stroke_width=0.6,
        stroke_fill=(36, 32, 36, 255),
    )
    return labelled


@lru_cache(maxsize=512)
def _fitting_font(label: str, width: int, height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font in the largest size at which `label` fits."""
    size = height
    font = ImageFont.load_default(size)
    while size > 6 and font.getbbox(label)[2] > width:
        size -= 1
        font = ImageFont.load_default(size)
    return font


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
