"""Turn pixels of any number type and colour model into 8-bit RGB, with transparency laid on white.

The scale of the values must be certain: an array of floats that run to 255, taken for 0-1, would be a white image and
get a score all the same. So a scale is never guessed from a few values, values outside are refused rather than cut off,
and the message says what to do. The rules also make up for what Pillow does to deep and transparent images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from dyneval.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ValueRange = tuple[float, float]
"""The values of black and of full brightness."""

_DEEP: ValueRange = (0, 65535)
_BYTES: ValueRange = (0, 255)
# Pillow spreads grey of 2 and 4 bits over 0-255, but leaves the grey that is transparent as it is in the file. The
# factors do it for that grey.
_PALE_KEYS = {"L;2": 85, "L;4": 17}
# TIFF 6.0: PhotometricInterpretation, whose 0 says that 0 is white, and BitsPerSample.
_TIFF_WHITE_IS, _TIFF_BITS = 262, 258


class PixelError(UserError, ValueError):
    """Pixels cannot be used; the message says what was found and what was expected, but not in which image."""


def from_array(pixels: NDArray[Any], value_range: ValueRange | None = None) -> Image.Image:
    """Make an RGB image from an array.

    Args:
        pixels: (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha.
        value_range: the values of black and of full brightness; None: those that the type implies (see `levels`).

    Raises:
        PixelError: the array has another shape or type, or holds NaN or values outside of the range.
    """
    import numpy as np

    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)):
        raise PixelError(f"an array that has the shape {pixels.shape}, expected (H, W) or (H, W, 1 to 4)")
    try:
        plain = levels(pixels, value_range)
    except PixelError as error:
        raise PixelError(f"{error}; say with value_range what they run between, such as (-1, 1) or (0, 255)") from None
    return _on_white(Image.fromarray(np.ascontiguousarray(plain[..., 0] if plain.shape[2:] == (1,) else plain)))


def from_tensor(tensor: Any, value_range: ValueRange | None = None) -> Image.Image:
    """Make an RGB image from a torch tensor (1, H, W) or (3, H, W) on any device, scaled as an array is.

    Raises:
        PixelError: as `from_array`. Four channels are refused: they are latents that were not decoded.
    """
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise PixelError(f"a tensor that has the shape {tuple(tensor.shape)}, expected (3, H, W) or (1, H, W)")
    # Floats of under four bytes are widened first, which changes no value: numpy has no bfloat16.
    plain = tensor.detach().float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor.detach()
    return from_array(plain.cpu().numpy().transpose(1, 2, 0), value_range)


def from_image(image: Image.Image) -> Image.Image:
    """Make an upright RGB image from an open one of any mode.

    Raises:
        PixelError: it has 16 or 32 bits a channel, and its scale is not known.
        OSError, ValueError: it was not loaded yet, and its file is broken.
    """
    if image.width * image.height == 0:
        raise PixelError(f"{image.width}x{image.height} pixels")
    # One grey or colour may be transparent. Before loading, since the raw mode of the file is forgotten then.
    key, tiles = image.info.get("transparency"), getattr(image, "tile", [])
    raw = tiles[0][3] if tiles else None
    if isinstance(key, tuple) and (raw == "RGB;16B" or max(key) > 255):
        raise PixelError("16 bits a channel with one colour that is transparent; save it with an alpha channel")
    image.load()
    if isinstance(key, int) and isinstance(raw, str) and raw in _PALE_KEYS:
        image.info["transparency"] = key * _PALE_KEYS[raw]
    upright = ImageOps.exif_transpose(image)
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return _on_white(upright)

    import numpy as np

    # Grey of more than 8 bits: Pillow's own conversion would cut its values off at 255.
    pixels = np.asarray(upright)
    try:
        grey = Image.fromarray(levels(pixels, _range_of(image, pixels)))
    except PixelError as error:
        raise PixelError(f"{error}; save it with 8 bits a channel, or give its array and a value_range") from None
    key = image.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(pixels == key, 0, 255).astype(np.uint8)))
    return _on_white(grey)


def levels(pixels: NDArray[Any], value_range: ValueRange | None = None) -> NDArray[np.uint8]:
    """Scale an array to brightness 0-255, in the same shape.

    Args:
        pixels: bool, whole numbers or fractions.
        value_range: the values of black and of full brightness. None: 0 and 1 for bool and fractions, 0 and 65535 for
            uint16, 0 and 255 for other whole numbers.

    Raises:
        PixelError: the values are not numbers, there are no pixels, a value is NaN or would not be rounded to 0-255,
            or all values of 16 bits would become 0 although they are not.
    """
    import numpy as np

    if pixels.dtype.kind not in "buif":
        raise PixelError(f"values of type {pixels.dtype}, expected numbers")
    if pixels.size == 0:
        raise PixelError(f"no pixels (shape {pixels.shape})")
    black, full = value_range or _implied(pixels.dtype)
    ends = np.array([pixels.min(), pixels.max()], np.float64)
    if not np.isfinite(ends).all():  # a NaN anywhere makes both of them NaN
        raise PixelError(f"NaN or infinite values of type {pixels.dtype}")
    # The ends are rounded before they are compared: -0.001 of 255 would become 0 anyway.
    rounded = np.rint((ends - black) * (255 / (full - black)))
    if rounded.min() < 0 or rounded.max() > 255:
        found = f"values from {ends[0]:g} to {ends[1]:g} of type {pixels.dtype}"
        raise PixelError(f"{found}, expected {black:g} to {full:g}")
    whole = pixels.dtype.kind in "ui"
    if whole and (black, full) == _BYTES:
        return pixels.astype(np.uint8)
    if whole and (black, full) == _DEEP:
        if value_range is None and 0 < pixels.max() < 256:
            raise PixelError(f"16 bits a value, but none over {pixels.max()}: are they of 8 bits?")
        return (pixels >> 8).astype(np.uint8)  # as Pillow reads files of 3 x 16 bits, so that all forms agree
    half_or_single = pixels.dtype in (np.float16, np.float32)
    exact: NDArray[np.floating[Any]] = pixels.astype(np.float32 if half_or_single else np.float64)
    # What the check let through rounds to 0-255; in single precision a half may still round to the other side.
    scaled: NDArray[np.uint8] = np.rint((exact - black) * (255 / (full - black))).clip(0, 255).astype(np.uint8)
    return scaled


def _implied(kind: np.dtype[Any]) -> ValueRange:
    if kind.kind in "bf":
        return (0, 1)
    return _DEEP if kind.kind == "u" and kind.itemsize == 2 else _BYTES


def _range_of(image: Image.Image, pixels: NDArray[Any]) -> ValueRange | None:
    """The values of black and full brightness in an image of mode I, F or I;16, by its file; None: its type says."""
    tags = getattr(image, "tag_v2", {})
    found: ValueRange | None = None
    if image.mode == "I" and image.format == "PPM":
        found = _DEEP  # Pillow spreads PGM of more than 8 bits over 16
    elif image.mode.startswith("I;") and tags.get(_TIFF_BITS) == (12,):
        found = (0, 4095)
    elif image.mode == "F" and 1 < pixels.max() <= 255 and pixels.min() >= 0 and (pixels % 1 == 0).all():
        found = _BYTES  # whole numbers, not only 0 and 1: a grey image of 8 bits that was converted to floats
    if tags.get(_TIFF_WHITE_IS) == 0:  # Pillow inverts such a file itself, but only one of 8 bits
        black, full = found or _implied(pixels.dtype)
        return full, black
    return found


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")  # premultiplied grey, which Pillow converts to nothing else
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
