"""Open image files from outside safely: below one folder, within limits, whole, and as upright RGB.

    from dyneval.files.images import load_image

    print(load_image("cat.png").size)

A path in a table may lead out of the image folder, a small file may unpack to gigabytes, and a broken one may raise
almost anything in a decoder. Every such image ends in an ImageError that names it; other images go on. Everything that
scores, trains or annotates opens images here, so they all see the same pixels.
"""

from __future__ import annotations

import errno
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from PIL import Image, UnidentifiedImageError

from dyneval.errors import ImageError
from dyneval.files.image_structure import MAX_SCANS, check_structure, scans
from dyneval.files.opening import pointer
from dyneval.files.pixels import PixelError, from_image

MAX_PIXELS = 64 * 1024 * 1024
"""Images with more pixels are refused before they are decoded: a few kB can unpack to gigabytes."""
# 64 megapixels of four channels and 16 bits have so many bytes when they are not compressed.
MAX_BYTES = 8 * MAX_PIXELS
_TOO_LARGE = f"more than {MAX_BYTES / 2**20:g} MiB, larger image files are not read"

# Formats that are decoded. Pillow knows more, some of which run other programs (EPS runs Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
# What Pillow's decoders raise for broken files.
_BROKEN = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# These texts of a PNG may say which way up it is, so they are kept where the others are left out.
_TEXTS_OF_USE = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
# Flags in the header of a WEBP file: it is animated, it has transparency.
_WEBP_MOVES, _WEBP_ALPHA = 0x02, 0x10


def resolve_below(root: Path, name: str) -> Path:
    """Return the real path of `name` below `root`; the file need not exist.

    Raises:
        ImageError: the path leads out of `root`, by "..", as an absolute path or through a link. Links to the blobs of
            the same repository in the cache of the Hugging Face Hub are allowed: all its files are such links.
    """
    base = root.resolve()
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a link to itself, a NUL byte
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
    """The file that a table or a person calls `name`, below `root` where one is given; it need not exist.

    Where there is no such file, other spellings of its name are tried: backslashes of Windows, %20 of addresses,
    blanks around it.

    Raises:
        ImageError: the path leads out of `root`.
    """
    plain = name.strip().removeprefix("file://")
    slashed = plain.replace("\\", "/")
    # As written first: a file may really be called "a%20b.png".
    for spelling in dict.fromkeys((name, plain, slashed, unquote(plain), unquote(slashed))):
        path = resolve_below(root, spelling) if root is not None else Path(spelling)
        if path.is_file():
            return path
    return resolve_below(root, name) if root is not None else Path(name)


def file_version(file: Path) -> tuple[int, int] | None:
    """Time of change in ns and size in bytes, which differ when a file was replaced; None where there is no file."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def load_image(path: str | Path, root: Path | None = None) -> Image.Image:
    """Read an image file as upright RGB. Transparency is laid on white; of an animation the first frame is taken.

    Args:
        path: the file, relative to `root` if that is given.
        root: a folder that the path may not leave.

    Raises:
        ImageError: the file is missing, empty, truncated or not an image, its brightness has no known scale, or it has
            more than `MAX_PIXELS` pixels; the message names the file.
    """
    file = resolve_below(root, str(path)) if root is not None else Path(path)
    return decode_image(file, str(file))


def webp_thumbnail(path: str | Path, root: Path, side: int) -> tuple[bytes, tuple[int, int]]:
    """Make a small WEBP of an image file, for a page.

    Args:
        path: the file, below `root`.
        root: the folder that the path may not leave.
        side: pixels that it is wide and high, at most.

    Returns:
        The WEBP file, and its (width, height) in pixels.

    Raises:
        ImageError: as `load_image`.
    """
    image = load_image(path, root)
    image.thumbnail((side, side))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=80)
    return data.getvalue(), image.size


def png_bytes(image: Image.Image) -> bytes:
    """An image as a PNG file, without loss."""
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)  # packed lightly: it is sent once, and higher levels take far longer
    return data.getvalue()


def decode_image(source: Path | bytes | IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read an image as `load_image` does, from a file or from its bytes.

    Args:
        source: a path, the bytes of an image file, or a file that is open in binary mode.
        name: what errors call it.
        max_pixels: images with more pixels are refused.

    Raises:
        ImageError: the image cannot be used.
    """
    content = source if isinstance(source, bytes) else read_file(source, name)
    if message := pointer(content):
        raise ImageError(f"{name}: {message}")
    try:
        with _naming(name):
            check_structure(content)
            with _opened(io.BytesIO(content)) as image:
                check_size(image.width, image.height, name, max_pixels)
                return _upright(image, content)
    except ImageError as error:
        # Pillow gives up with a ValueError on a PNG with a long text, whose pixels are good.
        if not isinstance(error.__cause__, ValueError):
            raise
        plain = _without_texts(content)
        if len(plain) == len(content):
            raise
        return decode_image(plain, name, max_pixels)


def upright_rgb(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The same from an open Pillow image of any mode, of the frame that it is at.

    Args:
        image: open; where it was read from a file, the place in that file is kept.
        name: what errors call it.
        max_pixels: images with more pixels are refused.

    Raises:
        ImageError: the image cannot be used.
    """
    with _naming(name):
        check_size(image.width, image.height, name, max_pixels)
        # The file behind it, of formats in which more than the pixels matters. The caller may have closed it.
        content, stream = b"", getattr(image, "fp", None)
        if image.format in ("JPEG", "MPO", "WEBP") and stream and not stream.closed and stream.seekable():
            place = stream.tell()
            stream.seek(0)
            content = stream.read(MAX_BYTES)
            stream.seek(place)
        if image.format != "WEBP" and scans(content) > MAX_SCANS:
            raise ImageError(f"{name}: a JPEG of more than {MAX_SCANS} scans")
        return _upright(image, content)


def check_size(width: int, height: int, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError when an image of this width and height has more than `max_pixels` pixels."""
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width}x{height} pixels, at most {max_pixels / 2**20:g} megapixels are read")


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as stored, that is before EXIF turns the image; only the header is read.

    Raises:
        ImageError: the file is missing, or is not an image that `load_image` would decode.
    """
    name = str(path)
    with _naming(name):
        _check_file(path, name)
        try:
            with _opened(path) as image:
                return image.size
        except ValueError:  # a long text in a PNG, as in `decode_image`
            with _opened(io.BytesIO(_without_texts(read_file(path, name)))) as image:
                return image.size


def read_file(file: Path | IO[bytes], name: str) -> bytes:
    """The bytes of an image file.

    Args:
        file: a path, or a file that is open in binary mode, which is read from its beginning where it can be.
        name: what errors call it.

    Raises:
        ImageError: the file is missing, is a folder or device, cannot be read, is open as text, or has more than
            `MAX_BYTES` bytes.
    """
    try:
        if isinstance(file, Path):
            _check_file(file, name)
        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
            if hasattr(opened, "seekable") and opened.seekable():
                opened.seek(0)
            content: object = opened.read(MAX_BYTES + 1)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the file was closed
        too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG
        what = "no file can have this name" if too_long else "cannot be read"
        raise ImageError(f"{name[:200]}: {what} ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(content, bytes):
        raise ImageError(f"{name}: a file that is read as {type(content).__name__}, expected bytes (mode 'rb')")
    if len(content) > MAX_BYTES:  # the size of a path was checked, that of an open file could not be
        raise ImageError(f"{name}: {_TOO_LARGE}")
    return content


def _check_file(path: Path, name: str) -> None:
    if not path.exists():
        raise ImageError(f"{name[:200]}: no such image file")
    if not path.is_file():  # opening a pipe would wait for whoever writes to it
        raise ImageError(f"{name}: a folder, pipe or device, expected an image file")
    if path.stat().st_size > MAX_BYTES:
        raise ImageError(f"{name}: {_TOO_LARGE}")


def _upright(image: Image.Image, content: bytes) -> Image.Image:
    """The image as upright RGB; `content` is its file, as far as that is known."""
    # An animated WEBP whose header says that it has no transparency. What lies outside of a frame is transparent all
    # the same, but Pillow believes the header and makes it black: so it is read again with the flag set.
    if image.mode == "RGB" and content[8:16] == b"WEBPVP8X":
        flags = content[20]
        if flags & (_WEBP_MOVES | _WEBP_ALPHA) == _WEBP_MOVES:
            corrected = content[:20] + bytes([flags | _WEBP_ALPHA]) + content[21:]
            with _opened(io.BytesIO(corrected)) as frames:
                frames.seek(image.tell())
                return from_image(frames)
    return from_image(image)


@contextmanager
def _opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open an image file; only its header is read."""
    with warnings.catch_warnings():
        # Pillow warns at a limit of its own, lower than ours, which is checked before anything is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file, formats=FORMATS) as image:
            yield image


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn whatever the block raises for a bad image into an ImageError that names the image."""
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


def _without_texts(png: bytes) -> bytes:
    """A PNG without its texts and its colour profile, which are not used here; any other file as it is.

    Pillow gives up on a text over 1 MiB, such as the workflow that ComfyUI writes into its images.
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
