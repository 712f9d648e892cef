"""Images as trainers and metrics have them: tensors, arrays, open images or files, made into open images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


def as_images(images: Any) -> list[Image.Image | str | Path]:
    """Return images one by one.

    Args:
        images: a tensor (N, 3, H, W), an array (N, H, W, 3) or a sequence of images; each a file, a Pillow image, a
            tensor (3, H, W) or an array (H, W, 3). Whole numbers run from 0 to 255, fractions from 0 to 1, clamped.

    Raises:
        ValueError: a tensor or an array has another shape.
    """
    sequence: Iterable[Any] = images if isinstance(images, Sequence) else list(images)
    return [_one(image) for image in sequence]


def _one(image: Any) -> Image.Image | str | Path:
    from PIL import Image

    if isinstance(image, str | Path | Image.Image):
        return image
    import numpy as np

    tensor = hasattr(image, "detach")
    pixels = image.detach().float().cpu().numpy() if tensor else np.asarray(image)
    if tensor:
        whole = not image.is_floating_point()
        pixels = pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels
    else:
        whole = not np.issubdtype(pixels.dtype, np.floating)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        form = "a tensor (3, H, W)" if tensor else "an array (H, W, 3)"
        raise ValueError(f"an image has the shape {tuple(image.shape)}, expected {form}")
    scaled = pixels if whole else np.clip(pixels, 0, 1) * 255
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
