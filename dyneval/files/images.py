"""Image files from outside, opened safely: below one root, within limits, whole, upright and RGB."""

from __future__ import annotations

import errno
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from PIL import Image, UnidentifiedImageError

from dyneval.errors import ImageError
from dyneval.files.image_structure import MAX_SCANS, check_structure, scans
from dyneval.files.opening import pointer
from dyneval.files.pixels import PixelError, from_image

MAX_PIXELS = 64 * 1024 * 1024
"""Images over 64 megapixels are refused before they are decoded (decompression bombs)."""
MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are not read: so many bytes have 64 megapixels of four channels and 16 bits, not compressed."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is decoded. Pillow knows more, some of it by way of other programs (EPS calls Ghostscript)."""
# What Pillow's decoders raise about broken files.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_TEXTS_OF_USE = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Texts of a PNG that may say which way up it is."""
_WEBP_MOVES, _WEBP_ALPHA = 0x02, 0x10


def resolve_below(root: Path, name: str) -> Path:
    """Return the real path of `name` below `root`. Raises ImageError when it leads out of it (.., absolute, link).

    In the cache of the Hugging Face Hub a file is a link to the repository's blobs: those are below, too.
    """
    base = root.resolve()
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a link to itself, a NUL byte
        raise ImageError(f"{name[:200]!r}: no file can have this name ({error})") from error
    if path.is_relative_to(base):
        return path
    if Path(os.path.normpath(base / name)).is_relative_to(base):
        repository = next((one.parents[1] for one in (base, *base.parents) if one.parent.name == "snapshots"), None)
        if repository and path.parent == repository / "blobs":
            return path
        raise ImageError(
            f"{name}: a link that leads out of the image folder {root}; put files in place of the links (cp -rL)"
        )
    raise ImageError(f"{name}: leads out of the image folder {root}")


def image_path(root: Path | None, name: str) -> Path:
    """The file that a table or a person calls `name`; below `root`, where there is one.

    Where there is no such file, other spellings of its name are tried: backslashes of Windows, %20 of addresses,
    blanks around it. Raises ImageError: it leads out of `root`.
    """
    for spelled in dict.fromkeys((name, *_spellings(name))):
        path = resolve_below(root, spelled) if root is not None else Path(spelled)
        if path.is_file():
            return path
    return resolve_below(root, name) if root is not None else Path(name)


def _spellings(name: str) -> Iterator[str]:
    plain = name.strip().removeprefix("file://")
    slashed = plain.replace("\\", "/")
    yield from (plain, slashed, unquote(plain), unquote(slashed))


def file_version(file: Path) -> tuple[int, int] | None:
    """What tells a file from the one that was there before: its time and size; None where there is none."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def load_image(path: str | Path, root: Path | None = None) -> Image.Image:
    """Read an image file as upright RGB; transparency is laid on white, of an animation the first frame is taken.

    Args:
        path: the file; relative to `root` and bound to stay below it when `root` is given.
        root: the folder that the path may not leave.

    Raises:
        ImageError: missing, empty, truncated, not an image, without a sure scale, or over `MAX_PIXELS`; the message
            names the file.
    """
    file = resolve_below(root, str(path)) if root is not None else Path(path)
    return decode_image(file, str(file))


def webp_thumbnail(path: str | Path, root: Path, side: int) -> tuple[bytes, tuple[int, int]]:
    """An image file as WEBP for a page, at most `side` pixels wide and high; also its width and height.

    Raises:
        ImageError: as `load_image`.
    """
    image = load_image(path, root)
    image.thumbnail((side, side))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=80)
    return data.getvalue(), image.size


def png_bytes(image: Image.Image) -> bytes:
    """An image as a PNG file: without loss, packed lightly for speed."""
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)
    return data.getvalue()


def decode_image(source: Path | bytes | IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as `load_image` does from a file or from bytes in memory; errors call it `name`.

    Raises:
        ImageError: it cannot be used, or has more than `max_pixels` pixels.
    """
    content = source if isinstance(source, bytes) else read_file(source, name)
    if told := pointer(content):
        raise ImageError(f"{name}: {told}")
    with _errors_name(name):
        check_structure(content)
    try:
        return _decoded(content, name, max_pixels)
    except ImageError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        plain = _without_texts(content)
        if len(plain) == len(content):
            raise
        return _decoded(plain, name, max_pixels)


def upright_rgb(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The same from an open image, of the frame that it is at; errors call it `name`. Raises ImageError."""
    with _errors_name(name):
        check_size(image.width, image.height, name, max_pixels)
        file = _file_behind(image)
        if image.format != "WEBP" and scans(file) > MAX_SCANS:
            raise ImageError(f"{name}: a JPEG of more than {MAX_SCANS} scans")
        return _upright(image, file)


def check_size(width: int, height: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Raises ImageError when an image of this width and height has more than `max_pixels` pixels."""
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width}x{height} pixels, at most {max_pixels / 2**20:g} megapixels are read")


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height as stored, that is before EXIF turns the image, from the header of the file.

    Raises:
        ImageError: missing, or not an image that `load_image` would decode.
    """
    name = str(path)
    with _errors_name(name):
        _check_file(path, name)
        try:
            with _opened(path) as image:
                return image.size
        except ValueError:  # a long text in a PNG
            with _opened(io.BytesIO(_without_texts(read_file(path, name)))) as image:
                return image.size


def read_file(file: Path | IO[bytes], name: str) -> bytes:
    """The bytes of an image file; of one that is open already from its beginning. Errors call it `name`.

    Raises:
        ImageError: missing, no regular file, not to be read, open as text, or over `MAX_BYTES`.
    """
    try:
        if not isinstance(file, Path):
            return _content(file, name)
        _check_file(file, name)
        with file.open("rb") as opened:
            return _content(opened, name)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the file was closed
        too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG
        what = "no file can have this name" if too_long else "cannot be read"
        raise ImageError(f"{name[:200]}: {what} ({getattr(error, 'strerror', None) or error})") from error


def _check_file(path: Path, name: str) -> None:
    if not path.exists():
        raise ImageError(f"{name[:200]}: no such image file")
    if not path.is_file():  # to open a pipe would wait for whoever writes to it
        raise ImageError(f"{name}: a folder, pipe or device, expected an image file")
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(name)


def _content(file: IO[bytes], name: str) -> bytes:
    if hasattr(file, "seekable") and file.seekable():
        file.seek(0)
    content: object = file.read(MAX_BYTES + 1)
    if not isinstance(content, bytes):
        raise ImageError(f"{name}: a file that is read as {type(content).__name__}, expected bytes (mode 'rb')")
    if len(content) > MAX_BYTES:
        raise _too_large(name)
    return content


def _too_large(name: str) -> ImageError:
    return ImageError(f"{name}: more than {MAX_BYTES / 2**20:g} MiB, larger image files are not read")


def _decoded(content: bytes, name: str, max_pixels: int) -> Image.Image:
    with _errors_name(name), _opened(io.BytesIO(content)) as image:
        check_size(image.width, image.height, name, max_pixels)
        return _upright(image, content)


def _upright(image: Image.Image, file: bytes) -> Image.Image:
    if image.mode == "RGB" and (alpha := _with_alpha(file)):
        with _opened(io.BytesIO(alpha)) as frames:
            frames.seek(image.tell())
            return from_image(frames)
    return from_image(image)


@contextmanager
def _opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """An image file of which only the header was read."""
    with warnings.catch_warnings():
        # Pillow warns at its own, lower limit; ours is checked before anything is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file, formats=FORMATS) as image:
            yield image


@contextmanager
def _errors_name(name: str) -> Iterator[None]:
    """Make an ImageError that names the image of whatever goes wrong in the block."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image file that can be read ({', '.join(FORMATS)})") from None
    except (PixelError, Image.DecompressionBombError) as error:
        raise ImageError(f"{name}: {error}") from None
    except _BROKEN as error:
        what = "it holds too long a text" if "MAX_TEXT" in str(error) else "the image is broken or truncated"
        raise ImageError(f"{name}: {what} ({error})") from error


def _file_behind(image: Image.Image) -> bytes:
    """The file that an open image is read from, as far as it is needed; empty where it is no longer at hand."""
    if image.format not in ("JPEG", "MPO", "WEBP"):
        return b""
    file: IO[bytes] | None = getattr(image, "fp", None)
    if file is None or file.closed or not file.seekable():
        return b""
    place = file.tell()
    file.seek(0)
    content = file.read(MAX_BYTES)
    file.seek(place)
    return content


def _with_alpha(webp: bytes) -> bytes:
    """An animated WEBP made to be read with transparency; empty for any other file.

    Its header need not say that there is any, since what lies outside of a frame is transparent too. Pillow goes by
    the header and makes it black.
    """
    if webp[8:16] != b"WEBPVP8X" or webp[20] & (_WEBP_MOVES | _WEBP_ALPHA) != _WEBP_MOVES:
        return b""
    return webp[:20] + bytes([webp[20] | _WEBP_ALPHA]) + webp[21:]


def _without_texts(png: bytes) -> bytes:
    """A PNG without its texts and its colour profile, which nobody looks at here; any other file as it is.

    Pillow gives up on a text over 1 MiB, such as the workflow that ComfyUI writes.
    """
    if not png.startswith(b"\x89PNG"):
        return png
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] not in _TEXT_CHUNKS or png[at + 8 : end].startswith(_TEXTS_OF_USE):
            kept.append(png[at:end])
        at = end
    return b"".join(kept)
