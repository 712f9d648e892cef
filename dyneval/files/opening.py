"""Open text files of users: unpack them, find out their encoding, and read lines within limits.

Users bring .gz and .zst files, UTF-16 from Excel, lines of Windows-1252 among UTF-8, and pointers that Git LFS left in
place of a file. All tables and prompts are read through here. A wrong guess of the encoding would put wrong letters
into prompts without an error, so what cannot be told for certain is refused with what to do.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from dyneval.errors import DataFileError, unreadable

MAX_LINE = 1 << 26
"""Bytes or characters; a longer line is no row of a table."""
PACKED = (".gz", ".zst")
# How the text begins that Git LFS leaves in place of a large file.
_POINTER = b"version https://git-lfs.github.com/spec/"
# Bytes that a packed text may unpack to in any case. They may be eight million rows, which take 2 GB of memory.
_FLOOR = 1 << 24
# Above that floor, how many times its own size. Text shrinks to a tenth, rarely to a fiftieth.
_RATIO = 200
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_HEAD = 1 << 12
# The upper byte of a letter in UTF-16 is below this in Latin, Greek, Cyrillic and most other alphabets. In UTF-8 bytes
# below it are line ends and tabs, and stand at any place.
_SMALL = 32
# Encodings without a mark: bytes a letter, the place of its upper byte, and the place of one that is always 0.
_UNMARKED = (
    ("utf-32-le", 4, 2, 3),
    ("utf-32-be", 4, 1, 0),
    ("utf-16-le", 2, 1, None),
    ("utf-16-be", 2, 0, None),
)
# Fewer bytes above 127 say nothing about the encoding of a line.
_FOREIGN = 4


def check_unpacked(path: Path, size: int, floor: int) -> None:
    """Raise DataFileError when `path` unpacks to too much, as a decompression bomb does.

    Args:
        path: the packed file.
        size: bytes that it unpacks to, so far.
        floor: bytes that it may unpack to in any case; above, it may be 200 times its packed size.
    """
    if size > max(floor, _RATIO * path.stat().st_size):
        raise DataFileError(
            f"{path}: unpacks to more than {_RATIO} times its size and over {floor >> 20} MiB; it is not read. "
            "If you trust it, unpack it or write it again in parts"
        )


def pointer(head: bytes) -> str | None:
    """A message about a file that begins with `head`, if it is a pointer of Git LFS; else None."""
    if not head.startswith(_POINTER):
        return None
    return "is a Git LFS pointer, not the file itself; get that with `git lfs pull`, or download it from its page"


def refuse_pointer(path: Path) -> None:
    """Raise DataFileError where Git LFS has left a pointer in place of a file; a file that cannot be read passes."""
    if not path.is_file():  # reading from a pipe would take bytes away from whoever reads it next
        return
    try:
        with path.open("rb") as file:
            message = pointer(file.read(len(_POINTER)))
    except OSError:
        return
    if message:
        raise DataFileError(f"{path}: {message}")


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file in binary mode, unpacked where its name ends with one of `PACKED`.

    Raises:
        DataFileError: the file cannot be read or unpacked, also if that shows only inside of the block.
    """
    refuse_pointer(path)
    suffix = path.suffix.lower()
    try:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            stream: Any = None
            if suffix == ".gz":
                stream = gzip.GzipFile(fileobj=file)
            elif suffix == ".zst":
                try:
                    import pyarrow as pa
                except ImportError:
                    message = f"{path}: .zst is read with pyarrow, which is not here; unpack it (zstd -d)"
                    raise DataFileError(message) from None
                stream = pa.CompressedInputStream(file, "zstd")
            if stream is None:
                yield file
            else:
                yield io.BufferedReader(_BoundedStream(path, stack.enter_context(stream)), 1 << 16)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def byte_lines(file: io.BufferedReader, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number (from 1) and the UTF-8 bytes of each line that is not blank, see `raw_lines`."""
    for number, line in enumerate(raw_lines(file, path), 1):
        if bare := line.strip():
            yield number, bare


def raw_lines(file: io.BufferedReader, path: Path) -> Iterator[bytes]:
    r"""Yield the lines as UTF-8 with their ends: \n, \r\n or \r.

    The bytes of a file that looks like UTF-8 are passed on unchecked: the parser of a line then says what is wrong.

    Raises:
        DataFileError: a line is too long, or the file begins in another encoding and does not go on in it.
    """
    code = encoding(file)
    if not code.startswith("utf-8"):
        try:
            yield from (line.encode("utf-8") for line in text_lines(file, path))
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path}: begins as {code} and is not ({error}); save it as UTF-8") from error
        return
    if code == "utf-8-sig":
        file.read(len(codecs.BOM_UTF8))
    for line in _bounded(file, path):
        if b"\r" in line:
            yield from line.splitlines(keepends=True)
        else:
            yield line


def text_lines(file: io.BufferedReader, path: Path, lenient: bool = False) -> Iterator[str]:
    r"""Yield the lines as text with their ends, \n, \r\n or \r.

    Args:
        file: open at its beginning, see `opened`; it is read to its end.
        path: its name, for messages.
        lenient: read each line by `decoded`, which takes Windows-1252 among UTF-8.

    Raises:
        UnicodeDecodeError: a line is not in the encoding of the file.
        DataFileError: a line is too long.
    """
    if lenient:
        return map(decoded, raw_lines(file, path))
    return _bounded(io.TextIOWrapper(file, encoding(file), newline=""), path)


def decoded(line: bytes) -> str:
    """Decode a line as UTF-8 or, if it is not that, as Windows-1252: collections of prompts often hold lines of both.

    Raises:
        UnicodeDecodeError: every other byte would become an accented letter. Such a line is Russian, Chinese or
            Japanese in some other encoding, or broken UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        foreign = sum(byte > 127 for byte in line)
        if foreign >= _FOREIGN and 2 * foreign > len(line):
            raise
        return line.decode("cp1252", "replace")


def encoding(file: io.BufferedReader) -> str:
    """The encoding of a file that is open at its beginning; nothing of it is consumed.

    A byte-order mark decides. Without one, the first 4 KiB are UTF-32 or UTF-16 if the bytes at the place of the upper
    byte are as small as they are in most alphabets; else they are taken for UTF-8.
    """
    head = file.peek(_HEAD)[:_HEAD]
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    for name, size, upper, zero in _UNMARKED:
        letters = len(head) // size
        whole = head[: letters * size]
        small = [sum(byte < _SMALL for byte in whole[place::size]) for place in range(size)]
        if zero is not None:
            # In UTF-32 the upper byte is always small, and the one beside it is always 0.
            if letters and not any(whole[zero::size]) and small[upper] == letters:
                return name
        # 0 is the upper byte of every blank and line end; without that rule, lines of one letter would pass for UTF-16.
        elif 0 in whole[upper::2] and 2 * small[upper] >= letters and 2 * small[1 - upper] <= small[upper]:
            return name
    return "utf-8"


def _bounded(file: IO[Any], path: Path) -> Iterator[Any]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise DataFileError(f"{path}: a line is longer than {MAX_LINE >> 20} MiB; expected a row a line")
        yield line


class _BoundedStream(io.RawIOBase):
    """An unpacking stream that raises at a decompression bomb before it fills the memory."""

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
