"""A picture that looks like a photograph from afar, for trying real input where no photograph is at hand.

python -m dyneval.demo.photo --output photo.jpg [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.floating]


def photo_like(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """RGB picture of `size` (width, height): a landscape out of focus, a lit round thing in front, grain, dark corners.

    The same arguments give the same bytes. Raises ValueError when a side is not 32-4096 pixels.
    """
    width, height = size
    if not (32 <= width <= 4096 and 32 <= height <= 4096):
        raise ValueError(f"both sides must be 32-4096 pixels, not {size}")
    rng = np.random.default_rng(seed)
    image = Image.fromarray(_to_bytes(_landscape(rng, width, height)), "RGB")
    image = _bokeh(image, rng).filter(ImageFilter.GaussianBlur(width / 160))
    return Image.fromarray(_to_bytes(_lens(_subject(image, rng), rng)), "RGB")


def _landscape(rng: np.random.Generator, width: int, height: int) -> Array:
    """Sky over ground, both uneven at every scale."""
    warm = rng.uniform(0, 1)
    sky = np.array([110 + 90 * warm, 150 + 20 * warm, 205 - 60 * warm])
    ground = np.array([92, 104, 62]) * rng.uniform(0.7, 1.2) + rng.uniform(-15, 15, 3)
    y = np.linspace(0, 1, height)[:, None, None]
    clouds = _cloudiness(rng, width, height)[..., None]
    horizon = rng.uniform(0.45, 0.62) + 0.05 * _cloudiness(rng, width, 1)[0][None, :, None]
    far = sky * (0.75 + 0.45 * y / horizon) + 18 * clouds
    near = ground * (0.7 + 0.5 * (y - horizon)) + 14 * _cloudiness(rng, width, height)[..., None]
    return np.where(y < horizon, far, near)


def _cloudiness(rng: np.random.Generator, width: int, height: int) -> Array:
    """Smooth noise (height, width), octaves added with falling weight."""
    total = np.zeros((height, width))
    for octave in range(5):
        cells = (max(2, min(height, 3 << octave)), max(2, min(width, 4 << octave)))
        grid = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 1.7**octave
    return total / 1.6


def _bokeh(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lights far behind the focus, as translucent discs."""
    width, height = image.size
    for _ in range(int(rng.integers(6, 14))):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, 0.6 * height), rng.uniform(0.012, 0.04) * width
        disc = Image.new("L", image.size)
        ImageDraw.Draw(disc).ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(40, 110)))
        light = tuple(int(v) for v in rng.integers((220, 190, 140), (256, 240, 230)))
        image.paste(light, mask=disc)
    return image


def _subject(image: Image.Image, rng: np.random.Generator) -> Array:
    """The picture with a sphere lit from one side, its shadow below."""
    width, height = image.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    radius = height * rng.uniform(0.16, 0.24)
    cx, cy = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.58, 0.68)
    u, v = (x - cx) / radius, (y - cy) / radius
    inside = np.clip((1 - np.hypot(u, v)) * radius / 2, 0, 1)[..., None]
    depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    toward = np.clip(-0.5 * u - 0.6 * v + 0.62 * depth, 0, 1)
    paint = rng.uniform(60, 220, 3)
    surface = 1 + 0.08 * _cloudiness(rng, width, height)
    ball = paint * (0.25 + 0.85 * toward * surface)[..., None] + 190 * (toward**24)[..., None]
    shadow = np.exp(-((u / 1.1) ** 2) - ((v - 1.05) / 0.22) ** 2)[..., None]
    return np.asarray(image) * (1 - 0.6 * shadow) * (1 - inside) + ball * inside


def _lens(pixels: Array, rng: np.random.Generator) -> Array:
    """Dark corners, and grain that is stronger in the shadows."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = 1 - 0.22 * (x**2 + y**2)[..., None]
    grain = rng.standard_normal((height, width, 1)) * 3.5 + rng.standard_normal(pixels.shape) * 1.5
    return pixels * vignette + grain * (1.3 - pixels / 400)


def _to_bytes(pixels: Array) -> NDArray[np.uint8]:
    return pixels.clip(0, 255).astype(np.uint8)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Make a photograph-like picture.")
    parser.add_argument("--output", type=Path, required=True, help="image file to write; its ending names the format")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another picture")
    arguments = parser.parse_args()
    photo_like(arguments.seed).save(arguments.output, quality=92)


if __name__ == "__main__":
    main()
