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
_POINTER = b"version https://git-lfs.github.com/spec/"
"""So begins the text that Git leaves in place of a large file which it keeps elsewhere."""
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
_HEAD = 1 << 12
_SMALL = 32
_UNMARKED = (
    ("utf-32-le", 4, 2, 3),
    ("utf-32-be", 4, 1, 0),
    ("utf-16-le", 2, 1, None),
    ("utf-16-be", 2, 0, None),
)
"""Encodings without a mark: bytes a letter, the place of its upper byte, and of one that is always 0."""
_FOREIGN = 4
"""Bytes above 127; fewer say nothing of a line's encoding."""


def check_unpacked(path: Path, size: int, floor: int) -> None:
    """Raise DataFileError when `size`, what `path` unpacks to, is over `floor` bytes and so many times its own: a bomb.

    Text shrinks to a tenth, rarely to a fiftieth; below the floor it does no harm.
    """
    if size > max(floor, _RATIO * path.stat().st_size):
        raise DataFileError(
            f"{path}: unpacks to more than {_RATIO} times its size and over {floor >> 20} MiB; it is not read. "
            "If you trust it, unpack it or write it again in parts"
        )


def pointer(head: bytes) -> str | None:
    """What to say of a file that begins so and is a pointer of Git LFS; None of any other."""
    if not head.startswith(_POINTER):
        return None
    return "is a Git LFS pointer, not the file itself; get that with `git lfs pull`, or download it from its page"


def refuse_pointer(path: Path) -> None:
    """Raise DataFileError where Git LFS has left a pointer in place of a file. What cannot be read is passed by."""
    if not path.is_file():  # to read from a pipe would take it from whoever reads it next
        return
    try:
        with path.open("rb") as file:
            told = pointer(file.read(len(_POINTER)))
    except OSError:
        return
    if told:
        raise DataFileError(f"{path}: {told}")


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked where its name ends as `PACKED`. Raises DataFileError, also while it is read."""
    refuse_pointer(path)
    try:
        with _unpacked(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def byte_lines(file: io.BufferedReader, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and UTF-8 bytes of each line that is not blank, see `raw_lines`."""
    for number, line in enumerate(raw_lines(file, path), 1):
        if bare := line.strip():
            yield number, bare


def raw_lines(file: io.BufferedReader, path: Path) -> Iterator[bytes]:
    r"""Yield the lines as UTF-8 with their ends: \n, \r\n or \r. A file that is called UTF-8 is not checked for it."""
    code = encoding(file)
    if not code.startswith("utf-8"):
        yield from _recoded(file, path, code)
        return
    if code == "utf-8-sig":
        file.read(len(codecs.BOM_UTF8))
    for line in _bounded(file, path):
        if b"\r" in line:
            yield from line.splitlines(keepends=True)
        else:
            yield line


def _recoded(file: io.BufferedReader, path: Path, code: str) -> Iterator[bytes]:
    try:
        yield from (line.encode("utf-8") for line in text_lines(file, path))
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: begins as {code} and is not ({error}); save it as UTF-8") from error


def text_lines(file: io.BufferedReader, path: Path, lenient: bool = False) -> Iterator[str]:
    r"""Yield the lines with their ends, \n, \r\n or \r; `lenient` as `decoded`. UnicodeDecodeError, DataFileError."""
    if lenient:
        return map(decoded, raw_lines(file, path))
    return _bounded(io.TextIOWrapper(file, encoding(file), newline=""), path)


def decoded(line: bytes) -> str:
    """A line as UTF-8 or, where it is none, as Windows-1252: collections of prompts often hold lines of both.

    Raises UnicodeDecodeError where that would take every other byte for an accented letter: such a line is Russian,
    Chinese or Japanese in some other encoding, or broken UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        foreign = sum(byte > 127 for byte in line)
        if foreign >= _FOREIGN and 2 * foreign > len(line):
            raise
        return line.decode("cp1252", "replace")


def encoding(file: io.BufferedReader) -> str:
    """The encoding of a file at its beginning, by its mark or by where its first kilobytes have small bytes."""
    head = file.peek(_HEAD)[:_HEAD]
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for name, size, upper, zero in _UNMARKED:
        if _is_wide(head, size, upper, zero):
            return name
    return "utf-8"


def _is_wide(head: bytes, size: int, upper: int, zero: int | None) -> bool:
    """Whether the letters have `size` bytes, the one at `upper` being small as it is in most alphabets.

    In UTF-8 bytes below 32 are line ends and tabs, and stand at any place. In UTF-16 the upper byte of Latin, Greek,
    Cyrillic and most other letters is one; in UTF-32 it always is, beside another that is 0.
    """
    head = head[: len(head) // size * size]
    small = [sum(byte < _SMALL for byte in head[place::size]) for place in range(size)]
    letters = len(head) // size
    if zero is not None:
        return bool(letters) and not any(head[zero::size]) and small[upper] == letters
    some = 0 in head[upper::2]  # the upper byte of every blank and line end; without it one-letter lines would do
    return some and 2 * small[upper] >= letters and 2 * small[1 - upper] <= small[upper]


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
