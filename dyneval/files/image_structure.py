"""Refuse image files with absurdly many parts before a decoder reads them.

A few bytes make another comment, chunk, scan or strip, and Pillow handles each of them on its own: 16 MB of them keep
it busy for 1 to 7 s, and 187 kB of scans for minutes. One such file could stop a server that decodes uploads. Ordinary
files stay far below the limits. Only the parts are counted here; whether the file is whole is for the decoder to say.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from dyneval.files.pixels import PixelError

MAX_SCANS = 100
"""A progressive JPEG has about 10 scans, each a pass over all its pixels."""
MAX_PARTS = 4096
"""Segments, blocks or boxes before the pixels. A colour profile of 16 MB takes 255 segments of a JPEG."""
# The average of a PNG must be at least this; programs write chunks of 8 KiB and more.
_BYTES_A_CHUNK = 512
# A strip has at least one row of pixels, in most files many.
_MAX_STRIPS = 100_000
# Pillow reads the header of a PPM byte by byte, comments included.
_PPM_HEADER = 4096
# Bytes of one value of each field type, from the tables of TIFF 6.0 (1-12) and BigTIFF (16-18); 13 is IFD.
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_STRIPS, _TIFF_TILES = 273, 324
# A marker of JPEG that has a length behind it, or the end. libjpeg skips lower ones among the pixels, without a length,
# when it looks for a restart.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_COMMENT = re.compile(rb"#[^\r\n]*[\r\n]")


def check_structure(content: bytes) -> None:
    """Raise PixelError where an image file has more parts than ordinary ones; other faults are not looked for.

    Args:
        content: the file; its first bytes tell its format. Formats that are not named here have no such parts.
    """
    if content.startswith(b"\x89PNG"):
        most = MAX_PARTS + len(content) // _BYTES_A_CHUNK
        _count(_chunks(content), most, "chunks")
    elif content.startswith(b"\xff\xd8"):
        _count(_segments(content), MAX_PARTS, "segments before its pixels")
        if scans(content) > MAX_SCANS:
            raise PixelError(f"a JPEG of more than {MAX_SCANS} scans")
    elif content.startswith(b"GIF8"):
        _count(_blocks(content), MAX_PARTS, "blocks before its first frame")
    elif content.startswith((b"II", b"MM")):
        _check_tiff(content)
    elif content[4:8] == b"jP  ":
        _count(_boxes(content), MAX_PARTS, "boxes")
    elif content[:1] == b"P":
        if content[:2] in (b"P1", b"P2", b"P3"):
            raise PixelError("a text format of PPM, which takes long to read; save it as P4, P5 or P6, or as PNG")
        header = _COMMENT.sub(b"", content[:_PPM_HEADER])
        # Kind, width, height and, except in P4, the largest value; what follows them are pixels.
        if len(content) > _PPM_HEADER and len(header.split(None, 3)) < (3 if content[:2] == b"P4" else 4):
            raise PixelError(f"a PPM whose header is over {_PPM_HEADER} bytes")


def scans(jpeg: bytes) -> int:
    """Number of scans of a JPEG, by their markers; counting ends at one over `MAX_SCANS`."""
    found, at = 0, 2
    while found <= MAX_SCANS and (marker := _MARKER.search(jpeg, at)):
        kind, at = marker[0][1], marker.end()
        if kind == 0xD9:  # the end; thumbnails and second pictures do not count
            break
        found += kind == 0xDA
        at += int.from_bytes(jpeg[at : at + 2])
    return found


def _count(parts: Iterator[None], most: int, what: str) -> None:
    if sum(1 for _, _ in zip(parts, range(most + 1), strict=False)) > most:
        raise PixelError(f"more than {most} {what}")


def _chunks(png: bytes) -> Iterator[None]:
    at = 8
    while at < len(png):
        yield
        at += 12 + int.from_bytes(png[at : at + 4])


def _segments(jpeg: bytes) -> Iterator[None]:
    """One item for each segment of a JPEG before its first scan, and for each byte that belongs to none."""
    at = 2
    while at + 1 < len(jpeg):
        yield
        if jpeg[at] != 0xFF or jpeg[at + 1] in (0x00, 0xFF):
            at += 1
        elif jpeg[at + 1] == 0xDA:
            return
        else:
            at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])


def _blocks(gif: bytes) -> Iterator[None]:
    """One item for each block of a GIF before its first frame, and for each byte that belongs to none."""
    at = 13 + (3 << (gif[10] & 7) + 1 if len(gif) > 10 and gif[10] & 0x80 else 0)
    while at < len(gif) and gif[at] not in b",;":
        yield
        if gif[at] != 0x21:
            at += 1
            continue
        at += 2
        while at < len(gif) and gif[at]:
            yield
            at += 1 + gif[at]
        at += 1


def _boxes(jp2: bytes) -> Iterator[None]:
    at = 0
    while at + 8 <= len(jp2):
        yield
        size = int.from_bytes(jp2[at : at + 4])
        size = int.from_bytes(jp2[at + 8 : at + 16]) if size == 1 else size
        if size < 8:  # up to the end of the file
            return
        at += size


def _check_tiff(tiff: bytes) -> None:
    """Look at the entries of the first directory: how many strips they announce, and how much they would read."""
    order = "<" if tiff.startswith(b"II") else ">"
    is_big = tiff[2:4] in (b"+\0", b"\0+")
    head, count, entry = ("8xQ", "Q", "HHQ8x") if is_big else ("4xL", "H", "HHL4x")
    try:
        (at,) = struct.unpack_from(order + head, tiff)
        (announced,) = struct.unpack_from(order + count, tiff, at)
        at += struct.calcsize(order + count)
        size = struct.calcsize(order + entry)
        rest = tiff[at : at + size * min(announced, 1 << 16)]
        entries = list(struct.iter_unpack(order + entry, rest[: len(rest) // size * size]))
    except (struct.error, OverflowError):
        return  # the file is broken, and the decoder will say so
    if any(number > _MAX_STRIPS for tag, _, number in entries if tag in (_TIFF_STRIPS, _TIFF_TILES)):
        raise PixelError(f"more than {_MAX_STRIPS} strips or tiles")
    # An ordinary file holds each value once; the rest is a margin.
    if sum(_TIFF_SIZES.get(kind, 1) * number for _, kind, number in entries) > 2 * len(tiff) + (1 << 16):
        raise PixelError("its tags hold more than the file")
