"""Text files of users as bytes and lines: unpacked, in any encoding that can be told, within limits."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dyneval.errors import DataFileError

MAX_LINE = 1 << 26
"""Bytes or characters; a longer line is no row of a table."""
PACKED = (".gz", ".zst")
_FLOOR = 1 << 24
"""Bytes of a packed text: they may be eight million rows, which take 2 GB of memory."""
_RATIO = 200
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def check_unpacked(path: Path, size: int, floor: int) -> None:
    """Raise DataFileError when `size`, what `path` unpacks to, is over `floor` bytes and so many times its own: a bomb.

    Text shrinks to a tenth, rarely to a fiftieth; below the floor it does no harm.
    """
    if size > max(floor, _RATIO * path.stat().st_size):
        raise DataFileError(
            f"{path}: unpacks to more than {_RATIO} times its size and over {floor >> 20} MiB; it is not read. "
            "If you trust it, unpack it or write it again in parts"
        )


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked where its name ends as `PACKED`. Raises DataFileError, also while it is read."""
    try:
        with _unpacked(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def byte_lines(file: io.BufferedReader, path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Yield number and UTF-8 bytes of each line that is not blank; it ends at \n, \r\n, \r or the file's end."""
    code = encoding(file)
    if code.startswith("utf-8"):
        if code == "utf-8-sig":
            file.read(len(codecs.BOM_UTF8))
        source: Iterator[bytes] = _bounded(file, path)
    else:
        source = _recoded(file, path, code)
    number = 0
    for line in source:
        for part in line.strip().split(b"\r"):
            number += 1
            if part.strip():
                yield number, part


def _recoded(file: io.BufferedReader, path: Path, code: str) -> Iterator[bytes]:
    try:
        yield from (line.encode("utf-8") for line in text_lines(file, path))
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: begins as {code} and is not ({error}); save it as UTF-8") from error


def text_lines(file: io.BufferedReader, path: Path) -> Iterator[str]:
    r"""Yield the lines with their ends, \n, \r\n or \r. UnicodeDecodeError where it cannot be read."""
    return _bounded(io.TextIOWrapper(file, encoding(file), newline=""), path)


def encoding(file: io.BufferedReader) -> str:
    """The encoding of a file at its beginning, by its mark or by the zero bytes around its first letters."""
    head = file.peek(4)[:4]
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    # A table begins with JSON or a column's name: letters below 256, which UTF-16 writes with a zero byte each.
    zeros = "".join("x" if byte else "0" for byte in head)
    return {"x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(zeros, "utf-8")


def _bounded(file: IO[Any], path: Path) -> Iterator[Any]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise DataFileError(f"{path}: a line is longer than {MAX_LINE >> 20} MiB; expected a row a line")
        yield line


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedReader]:
    if path.suffix.lower() not in PACKED:
        with path.open("rb") as file:
            yield file
        return
    with path.open("rb") as packed, _stream(path, packed) as stream:
        yield io.BufferedReader(_Counted(path, stream), 1 << 16)


def _stream(path: Path, packed: io.BufferedReader) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile(fileobj=packed)
    try:
        import pyarrow as pa
    except ImportError:
        raise DataFileError(f"{path}: .zst is read with pyarrow, which is not here; unpack it (zstd -d)") from None
    return pa.CompressedInputStream(packed, "zstd")


class _Counted(io.RawIOBase):
    """An unpacking stream that stops at a bomb before it fills the memory."""

    def __init__(self, path: Path, stream: Any) -> None:
        self._path, self._stream, self._size = path, stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._size += len(data)
        check_unpacked(self._path, self._size, _FLOOR)
        buffer[: len(data)] = data
        return len(data)
