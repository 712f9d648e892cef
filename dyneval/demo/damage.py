"""Quality faults as damage to pixels, from hardly visible (severity near 0) to ruinous (1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]


def melt(icon: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Let an RGBA icon sag and sway like wax; its top and bottom stay in place."""
    pixels = np.asarray(icon)
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    belly = np.sin(np.pi * y / height)
    phase = rng.uniform(0, 2 * np.pi, 4)
    drip = np.sin(2 * np.pi * 2.3 * x / width + phase[0]) + 0.6 * np.sin(2 * np.pi * 4.7 * x / width + phase[1])
    sway = np.sin(2 * np.pi * 1.4 * y / height + phase[2]) + 0.5 * np.sin(2 * np.pi * 3.1 * y / height + phase[3])
    source_y = y - severity * height * belly * (0.08 + 0.1 * drip)
    source_x = x - severity * width * 0.085 * belly * sway
    rows = source_y.round().clip(0, height - 1).astype(np.intp)
    columns = source_x.round().clip(0, width - 1).astype(np.intp)
    return Image.fromarray(pixels[rows, columns], "RGBA")


def tear(icon: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Rip an RGBA icon in two along a ragged line, with a gap between the halves."""
    pixels = np.asarray(icon)
    height, width = pixels.shape[:2]
    ragged = np.interp(np.arange(width), np.linspace(0, width, 12), rng.uniform(-0.045, 0.045, 12)) * height
    tilt = rng.uniform(-0.35, 0.35) * (np.arange(width) - width / 2)
    edge = height * rng.uniform(0.42, 0.58) + ragged + tilt
    below = np.arange(height)[:, None] > edge
    upper, lower = pixels.copy(), pixels.copy()
    upper[below], lower[~below] = 0, 0
    dx, dy = round(severity * 0.16 * width * rng.choice((-1, 1))), round((0.015 + severity * 0.09) * height)
    torn = Image.new("RGBA", icon.size)
    for half, shift in ((upper, (-dx // 2, -dy // 2)), (lower, (dx // 2, dy // 2))):
        piece = Image.fromarray(half, "RGBA")
        torn.alpha_composite(_moved(piece, *shift))
    return torn


def _moved(image: Image.Image, dx: int, dy: int) -> Image.Image:
    moved = Image.new(image.mode, image.size)
    moved.paste(image, (dx, dy))
    return moved


def seam(image: Image.Image, x: float, severity: float, rng: np.random.Generator) -> Image.Image:
    """Break an RGB image at `x` (0-1): what lies right of it slips up or down and changes its light."""
    size = image.height
    column = round(min(max(x, 0.1), 0.9) * size)
    slip = round((0.02 + severity * 0.11) * size) * int(rng.choice((-1, 1)))
    right = np.asarray(image)[:, column:]
    rows = (np.arange(size) - slip).clip(0, size - 1)
    light = 1 + severity * rng.choice((-0.24, 0.1))
    broken = np.asarray(image).copy()
    broken[:, column:] = (right[rows].astype(np.float32) * light).clip(0, 255).astype(np.uint8)
    thick = max(1, round(severity * size / 100))
    broken[:, column : column + thick] = broken[:, column : column + thick] // 2
    return Image.fromarray(broken, "RGB")


def blur(image: Image.Image, severity: float) -> Image.Image:
    """Blur an RGB image; at severity 1 small objects can only be guessed."""
    return image.filter(ImageFilter.GaussianBlur((0.35 + 3.4 * severity) * image.height / 256))


def noise(image: Image.Image, severity: float, rng: np.random.Generator) -> Image.Image:
    """Add grain to an RGB image, equally in all channels, and coloured specks."""
    shape = (image.height, image.width)
    grain = rng.standard_normal(shape, np.float32)[..., None] * np.float32(5 + 40 * severity)
    noisy = np.asarray(image) + grain
    specks = rng.random(shape, np.float32) < 0.03 * severity
    noisy[specks] = rng.integers(0, 256, (int(specks.sum()), 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8), "RGB")
