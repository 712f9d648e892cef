"""Image files from outside, opened safely: below one root, within a pixel limit, whole, upright and RGB."""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64 * 1024 * 1024
"""Images over 64 megapixels are refused before they are decoded (decompression bombs)."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is decoded. Pillow knows more, some of it by way of other programs (EPS calls Ghostscript)."""
# What Pillow's decoders raise about broken files.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)


class ImageError(ValueError):
    """An image cannot be used; the message names the file and the reason."""


def resolve_below(root: Path, name: str) -> Path:
    """Return the real path of `name` below `root`. Raises ImageError when it leads out of it (.., absolute, link)."""
    base = root.resolve()
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a link to itself, a NUL byte
        raise ImageError(f"{name[:200]!r}: no file can have this name ({error})") from error
    if not path.is_relative_to(base):
        raise ImageError(f"{name}: leads out of the image folder {root}")
    return path


def load_image(path: str | Path, root: Path | None = None) -> Image.Image:
    """Read an image file as upright RGB; transparency is laid on white, of an animation the first frame is taken.

    Args:
        path: the file; relative to `root` and bound to stay below it when `root` is given.
        root: the folder that the path may not leave.

    Raises:
        ImageError: missing, empty, truncated, not an image, or over `MAX_PIXELS`; the message names the file.
    """
    file = resolve_below(root, str(path)) if root is not None else Path(path)
    return decode_image(file, str(file))


def decode_image(source: Path | IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as `load_image` does from a file or from bytes in memory; errors call it `name`.

    Raises:
        ImageError: it cannot be used, or has more than `max_pixels` pixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns at its own, lower limit; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    most = f"{max_pixels / 2**20:g} megapixels"
                    raise ImageError(f"{name}: {image.width}x{image.height} pixels, at most {most} are read")
                image.load()
                return _rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ImageError(f"{name}: no such image file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image file that can be read ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: {error}") from error
    except _BROKEN as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name}: the image is broken or truncated ({error})") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # 16 bits a channel: Pillow's own conversion clips instead of scaling.
        image = image.convert("F").point(lambda value: value / 257).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
