"""Backgrounds of the demo world: one for each setting, in muted tones so that the objects stand out.

Each setting is drawn from a fixed seed, so the same (setting, variant, size) is the same picture on every machine. The
order of the calls to `rng` is part of that: an exchange of two lines gives other pictures than the judge learned from.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dyneval.demo.vocabulary import RGB

VARIANTS = 4
"""How many versions of each setting there are."""
# Drawn at this side and then scaled: Pillow draws hard edges, which scaling makes smooth.
_FINE = 512


@lru_cache(maxsize=64)
def backdrop(setting: str, variant: int, size: int) -> Image.Image:
    """Return an RGB image of a setting.

    Args:
        setting: a key of `vocabulary.SETTINGS`, or STUDIO.
        variant: 0 to VARIANTS - 1.
        size: pixels a side.

    Returns:
        An image that is shared by all callers: copy it before drawing on it.
    """
    # Seeded with a text: Random takes no tuple, and the hash of one with texts in it changes from run to run.
    rng = Random(f"backdrop {setting} {variant}")
    image = _PAINTERS[setting](rng, variant)
    if variant % 2:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _gradient(*stops: tuple[float, RGB]) -> Image.Image:
    """Draw a vertical gradient through (height 0-1, colour) stops, with a trace of noise against banding."""
    rows = np.linspace(0, 1, _FINE)
    heights, colours = [h for h, _ in stops], [colour for _, colour in stops]
    column = np.stack([np.interp(rows, heights, [c[i] for c in colours]) for i in range(3)], axis=1)
    grain = np.random.default_rng(3).uniform(-1.2, 1.2, (_FINE, _FINE, 1))
    return Image.fromarray((column[:, None] + grain).clip(0, 255).astype(np.uint8), "RGB")


def _hills(image: Image.Image, rng: Random, y: float, height: float, colour: RGB) -> None:
    """Draw a rolling outline around height `y` (0-1, downwards), at most `height` from it, filled to the bottom."""
    waves = [(rng.uniform(0.5, 2.2), rng.uniform(0, 6.3), rng.uniform(0.3, 1)) for _ in range(3)]
    total = sum(w for *_, w in waves)
    x = np.linspace(0, 1, 65)
    line = y + height / total * np.sum([w * np.sin(6.283 * f * x + p) for f, p, w in waves], axis=0)
    outline = (np.stack([x, line], axis=1) * _FINE).ravel().tolist()
    ImageDraw.Draw(image).polygon([*outline, _FINE, _FINE, 0, _FINE], fill=colour)


def _glow(image: Image.Image, x: float, y: float, radius: float, colour: RGB, soft: float = 0.0) -> None:
    """Draw a disc; coordinates, radius and the blur of its edge (`soft`) are fractions of the side."""
    box = [v * _FINE for v in (x - radius, y - radius, x + radius, y + radius)]
    if not soft:
        ImageDraw.Draw(image).ellipse(box, fill=colour)
        return
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    image.paste(colour, mask=mask.filter(ImageFilter.GaussianBlur(soft * _FINE)))


def _cloud(image: Image.Image, rng: Random, colour: RGB) -> None:
    """Draw four discs side by side in the upper third."""
    x, y, r = rng.uniform(0.05, 0.95), rng.uniform(0.06, 0.3), rng.uniform(0.03, 0.055)
    for dx, dy, k in ((-1.6, 0.3, 0.75), (-0.6, -0.2, 1.0), (0.6, -0.05, 0.9), (1.5, 0.35, 0.7)):
        _glow(image, x + dx * r, y + dy * r, k * r, colour, 0.006)


# ---------------------------------------------------------------------------
# One function a setting, from the back to the front. All take the variant; only two change their colours by it.


def _studio(rng: Random, variant: int) -> Image.Image:
    top, bottom = (
        ((214, 228, 240), (172, 190, 208)), ((240, 226, 210), (208, 184, 164)),
        ((222, 234, 214), (178, 198, 170)), ((232, 220, 238), (192, 174, 204)),
    )[variant]  # fmt: skip
    image = _gradient((0, top), (0.7, top), (0.74, bottom), (1, top))
    _glow(image, 0.5, 0.36, 0.3, tuple(min(255, c + 14) for c in top), 0.12)  # type: ignore[arg-type]
    return image


def _meadow(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (132, 192, 232)), (0.6, (220, 240, 246)), (1, (220, 240, 246)))
    for _ in range(3):
        _cloud(image, rng, (252, 253, 255))
    _hills(image, rng, 0.6, 0.05, (158, 202, 142))
    _hills(image, rng, 0.7, 0.04, (134, 186, 112))
    _hills(image, rng, 0.86, 0.03, (112, 168, 92))
    for _ in range(26):
        shade = rng.choice(((250, 240, 180), (248, 214, 226), (240, 246, 250)))
        _glow(image, rng.random(), rng.uniform(0.74, 0.99), rng.uniform(0.004, 0.009), shade)
    return image


def _beach(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (120, 196, 232)), (0.46, (212, 238, 244)), (0.47, (62, 158, 186)), (0.66, (122, 204, 210)))
    _glow(image, rng.uniform(0.15, 0.85), 0.16, 0.08, (255, 244, 196), 0.01)
    for _ in range(2):
        _cloud(image, rng, (250, 252, 255))
    _hills(image, rng, 0.655, 0.012, (240, 250, 250))
    _hills(image, rng, 0.675, 0.012, (240, 222, 178))
    _hills(image, rng, 0.85, 0.02, (230, 208, 158))
    return image


def _night(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (22, 26, 66)), (0.6, (70, 72, 130)), (1, (90, 84, 140)))
    for _ in range(70):
        shade = rng.choice(((255, 250, 220), (214, 224, 255)))
        _glow(image, rng.random(), rng.uniform(0, 0.6), rng.uniform(0.002, 0.005), shade)
    x = rng.uniform(0.15, 0.85)
    _glow(image, x, 0.17, 0.1, (120, 118, 160), 0.03)
    _glow(image, x, 0.17, 0.065, (252, 246, 214))
    _hills(image, rng, 0.66, 0.05, (46, 52, 96))
    _hills(image, rng, 0.82, 0.03, (34, 42, 78))
    return image


def _snow(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (150, 182, 214)), (0.6, (226, 234, 244)), (1, (226, 234, 244)))
    pen = ImageDraw.Draw(image)
    for x in (rng.uniform(-0.05, 0.2), rng.uniform(0.35, 0.55), rng.uniform(0.75, 1.0)):
        top, half = rng.uniform(0.2, 0.34), rng.uniform(0.28, 0.4)
        slope = [(x, top), (x + half, 0.7), (x - half, 0.7)]
        pen.polygon([(a * _FINE, b * _FINE) for a, b in slope], fill=(138, 158, 186))
        cap = [(x, top), (x + half * 0.3, top + 0.3 * (0.7 - top)), (x + half * 0.08, top + 0.2 * (0.7 - top)),
               (x - half * 0.06, top + 0.32 * (0.7 - top)), (x - half * 0.3, top + 0.3 * (0.7 - top))]  # fmt: skip
        pen.polygon([(a * _FINE, b * _FINE) for a, b in cap], fill=(240, 245, 250))
    _hills(image, rng, 0.66, 0.03, (226, 234, 244))
    _hills(image, rng, 0.82, 0.03, (208, 220, 234))
    for _ in range(50):
        _glow(image, rng.random(), rng.random(), rng.uniform(0.003, 0.007), (252, 253, 255))
    return image


def _desert(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (116, 120, 176)), (0.35, (240, 170, 140)), (0.6, (252, 214, 160)), (1, (252, 214, 160)))
    _glow(image, rng.uniform(0.2, 0.8), 0.5, 0.1, (255, 236, 180), 0.012)
    _hills(image, rng, 0.6, 0.05, (224, 164, 112))
    _hills(image, rng, 0.72, 0.05, (212, 146, 96))
    _hills(image, rng, 0.87, 0.04, (196, 128, 84))
    return image


def _city(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (164, 186, 210)), (0.7, (236, 226, 214)), (1, (236, 226, 214)))
    pen = ImageDraw.Draw(image)
    # Two rows of houses, the near one lower and darker; then pavement, road and its dashed line.
    for depth, colour in ((0.0, (176, 188, 206)), (0.12, (142, 156, 180))):
        x = -0.03
        while x < 1:
            width, top = rng.uniform(0.08, 0.15), rng.uniform(0.22, 0.48) + depth
            pen.rectangle([x * _FINE, top * _FINE, (x + width) * _FINE, 0.76 * _FINE], fill=colour)
            for row in np.arange(top + 0.025, 0.72, 0.045):
                for column in np.arange(x + 0.016, x + width - 0.024, 0.034):
                    if rng.random() < 0.6:
                        lit = (236, 224, 178) if rng.random() < 0.35 else tuple(c + 20 for c in colour)
                        pen.rectangle([v * _FINE for v in (column, row, column + 0.014, row + 0.022)], fill=lit)
            x += width + rng.uniform(-0.01, 0.02)
    pen.rectangle([0, 0.74 * _FINE, _FINE, _FINE], fill=(178, 178, 182))
    pen.rectangle([0, 0.8 * _FINE, _FINE, _FINE], fill=(132, 134, 142))
    for i in range(-1, 6):
        pen.rectangle([v * _FINE for v in (i * 0.22 + 0.05, 0.895, i * 0.22 + 0.17, 0.91)], fill=(214, 212, 198))
    return image


def _room(rng: Random, variant: int) -> Image.Image:
    wall = ((226, 214, 196), (204, 218, 220), (222, 206, 210), (212, 220, 200))[variant]
    image = _gradient((0, wall), (0.7, tuple(c - 12 for c in wall)), (1, wall))  # type: ignore[arg-type]
    # Wallpaper, a window with its cross, the floor, the skirting board, floorboards.
    pen = ImageDraw.Draw(image)
    for i in range(0, 24, 2):
        stripe = tuple(c - 7 for c in wall)
        pen.rectangle([i / 24 * _FINE, 0, (i + 1) / 24 * _FINE, 0.7 * _FINE], fill=stripe)
    pen.rectangle([v * _FINE for v in (0.62, 0.1, 0.9, 0.46)], fill=(250, 246, 238))
    pen.rectangle([v * _FINE for v in (0.64, 0.12, 0.88, 0.44)], fill=(172, 210, 232))
    pen.rectangle([v * _FINE for v in (0.752, 0.12, 0.768, 0.44)], fill=(250, 246, 238))
    pen.rectangle([v * _FINE for v in (0.64, 0.272, 0.88, 0.288)], fill=(250, 246, 238))
    pen.rectangle([0, 0.7 * _FINE, _FINE, _FINE], fill=(188, 150, 114))
    pen.rectangle([0, 0.685 * _FINE, _FINE, 0.71 * _FINE], fill=(244, 238, 228))
    for i in range(1, 5):
        pen.line([0, (0.7 + i * i * 0.018) * _FINE, _FINE, (0.7 + i * i * 0.018) * _FINE], fill=(166, 128, 94), width=2)
    return image


def _sea(rng: Random, variant: int) -> Image.Image:
    image = _gradient((0, (112, 204, 218)), (0.5, (56, 148, 186)), (1, (30, 92, 142)))
    rays = Image.new("L", image.size)
    pen = ImageDraw.Draw(rays)
    for _ in range(5):
        x, lean, width = rng.uniform(-0.1, 1), rng.uniform(0.1, 0.25), rng.uniform(0.03, 0.09)
        ray = [(x, 0), (x + width, 0), (x + width * 2 + lean, 0.85), (x + lean, 0.85)]
        pen.polygon([(a * _FINE, b * _FINE) for a, b in ray], fill=46)
    image.paste((224, 250, 250), mask=rays.filter(ImageFilter.GaussianBlur(9)))
    _hills(image, rng, 0.84, 0.03, (206, 190, 142))
    _hills(image, rng, 0.93, 0.02, (188, 168, 122))
    for _ in range(16):
        x, y, r = rng.random(), rng.uniform(0.05, 0.8), rng.uniform(0.006, 0.016)
        _glow(image, x, y, r, (190, 232, 240))
        _glow(image, x, y, r * 0.6, (92, 178, 204))
    for x in (rng.uniform(0.02, 0.12), rng.uniform(0.88, 0.98)):
        for k in range(3):
            points = [
                (x + 0.03 * k + 0.02 * np.sin(6 * t + k), 0.93 - t * (0.2 + 0.06 * k)) for t in np.linspace(0, 1, 9)
            ]
            ImageDraw.Draw(image).line([(float(a) * _FINE, float(b) * _FINE) for a, b in points], (58, 140, 110), 9)
    return image


_PAINTERS = {
    "studio": _studio,
    "meadow": _meadow,
    "beach": _beach,
    "night": _night,
    "snow": _snow,
    "desert": _desert,
    "city": _city,
    "room": _room,
    "sea": _sea,
}
