"""Read an image in any form that a caller may have it in: path, bytes, open file, Pillow image, array or tensor.

    from dyneval.files.image_forms import read_image

    print(read_image("cat.png", "the cat").image.size)

All forms become upright RGB in the same way. If a file and its array gave different pixels, the same picture would get
two scores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from dyneval.errors import ImageError
from dyneval.files.images import MAX_PIXELS, check_size, decode_image, read_file, upright_rgb
from dyneval.files.pixels import PixelError, ValueRange, from_array, from_tensor
from dyneval.hashing import bytes_sha256

_EXPECTED = (
    "expected a path, the bytes of an image file, an open file or image, a dict with `bytes` or `path`, "
    "an array (H, W, 3) or a tensor (3, H, W)"
)


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image that was read, and the file that it came from."""

    image: Image.Image
    """Upright, RGB."""
    file: Path | bytes | None
    """The image file that it came from; None for open images, arrays and tensors, which no longer have one."""
    file_hash: str | None
    """SHA-256 of the file's bytes, in hex."""


def read_image(
    image: Any, name: str, *, value_range: ValueRange | None = None, max_pixels: int = MAX_PIXELS
) -> ReadImage:
    """Read an image in any form. Transparency is laid on white; of an animated file the first frame is taken.

    Args:
        image: a path; the bytes of an image file, or a file that is open in binary mode; {"bytes", "path"} as in
            `datasets`; an open Pillow image of any mode; an array (H, W), (H, W, 1), (H, W, 2) with alpha, (H, W, 3) or
            (H, W, 4) with alpha; a torch tensor (3, H, W) or (1, H, W), of any floating type, on any device.
        name: what errors call it.
        value_range: the values of black and of full brightness in an array or a tensor. None: 0 and 1 for fractions and
            bool, 0 and 65535 for uint16, 0 and 255 for other whole numbers. Values outside are refused, not clamped.
        max_pixels: images with more pixels are refused.

    Raises:
        ImageError: the image cannot be used; the message says what was found and what was expected.
    """
    file = _file_of(image, name)
    if file is not None:
        content = file if isinstance(file, bytes) else read_file(file, name)
        return ReadImage(decode_image(content, name, max_pixels), file, bytes_sha256(content))
    if isinstance(image, Image.Image):
        return ReadImage(upright_rgb(image, name, max_pixels), None, None)
    try:
        return ReadImage(_from_numbers(image, name, value_range, max_pixels), None, None)
    except PixelError as error:
        raise ImageError(f"{name}: {error}") from None


def each_image(images: Any) -> list[Any]:
    """The images of a batch, one by one, each in a form that `read_image` takes.

    Args:
        images: any sequence or iterator of images, an array (N, H, W, C) or a tensor (N, C, H, W).

    Raises:
        ValueError: `images` is one image, or an array or a tensor of another shape.
    """
    shape = getattr(images, "shape", None)
    # One axis is an array of objects, such as paths. Three axes are one image, whose rows would pass for images.
    if shape is not None and len(shape) not in (1, 4):
        raise ValueError(
            f"the batch of images has the shape {tuple(shape)}, expected (N, H, W, C) of an array, (N, C, H, W) of a "
            "tensor; put one image into a list"
        )
    return in_list(images, "images")


def in_list(values: Any, name: str) -> list[Any]:
    """The values of a sequence or an iterator, as a list.

    Args:
        values: not one value, such as a text, nor a set or mapping, which have no order.
        name: what the error calls it.

    Raises:
        ValueError: `values` is one of those.
    """
    one = isinstance(values, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | Mapping | Set)
    if one or hasattr(values, "read") or not isinstance(values, Iterable):
        found = repr(values) if isinstance(values, str) and len(values) < 60 else type(values).__name__
        raise ValueError(f"{name}: found {found}, expected a list with one entry for each pair")
    return list(values)


def path_of(image: Any) -> str | None:
    """The path that an image came from, where its form says so."""
    if isinstance(image, Mapping):
        image = image.get("path")
    return os.fspath(image) if isinstance(image, str | Path) else None


def _file_of(image: Any, name: str) -> Path | bytes | None:
    if isinstance(image, str | os.PathLike):
        return Path(os.fsdecode(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if hasattr(image, "read"):
        return read_file(image, name)
    if not isinstance(image, Mapping):
        return None
    inner = next((image[key] for key in ("bytes", "path") if image.get(key) is not None), None)
    if not isinstance(inner, str | os.PathLike | bytes | bytearray | memoryview):
        raise ImageError(f"{name}: a dict without `bytes` and `path`; {_EXPECTED}")
    return _file_of(inner, name)


def _from_numbers(image: Any, name: str, value_range: ValueRange | None, max_pixels: int) -> Image.Image:
    is_tensor = hasattr(image, "is_floating_point")  # by a method of torch's tensors, so that torch is not imported
    if is_tensor:
        pixels, sides = image, image.shape[-2:]
    elif not hasattr(image, "__array__") and not hasattr(image, "__array_interface__"):
        raise PixelError(f"found {type(image).__name__}, {_EXPECTED}")
    else:
        import numpy as np

        try:
            pixels = np.asarray(image)
        except (TypeError, ValueError, RuntimeError) as error:  # such as an array on a device
            raise PixelError(f"a {type(image).__name__} that numpy cannot read ({error})") from error
        sides = pixels.shape[:2]
    # Before anything is converted, which takes several times the memory. Another number of sides is refused as a shape.
    if len(sides) == 2:
        check_size(sides[1], sides[0], name, max_pixels)
    return from_tensor(pixels, value_range) if is_tensor else from_array(pixels, value_range)
