"""Reads annotation files of any size by entry number, without holding their contents.

The file of a run is read by every process of every device and by their workers. Parsed into Python objects, 250,000
samples would be copied into each of them; here a process holds where each entry lies, and shares the pages of the file.
"""

from __future__ import annotations

import codecs
import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from dyneval.errors import DataFileError

_CHUNK = 1 << 22
"""Bytes read at once while the entries are found."""
_SEPARATOR = re.compile(r"[\s,]*")
_SPACE = re.compile(r"\s*")


class AnnotationFile:
    """The entries of a JSON array or a JSONL file by number.

    The file is parsed once, in pieces, to find where each entry begins and ends (16 bytes an entry); an entry is parsed
    again when it is asked for. Workers share the pages of the file instead of a copy of its objects.
    """

    def __init__(self, path: Path) -> None:
        """Find the entries. Raises DataFileError naming file and place when it is no JSON or holds no entries."""
        self.path = path
        try:
            with path.open("rb") as file:
                spans = list(_spans(file, path))
        except OSError as error:
            raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
        if not spans:
            raise DataFileError(f"{path}: holds no samples")
        self._spans = np.array(spans, dtype=np.int64)
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> Any:
        """Return entry number `index`, parsed."""
        # Opened by each process when it first reads: a map cannot be sent to the workers of a DataLoader.
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start, end = self._spans[index]
        return json.loads(self._map[start:end])

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_spans": self._spans, "_map": None}


def _spans(file: IO[bytes], path: Path) -> Iterator[tuple[int, int]]:
    """Byte ranges of the entries; both layouts are entries with white space (and, in an array, commas) between."""
    reader = _JsonWindow(file, path)
    reader.skip(_SPACE)
    # An array begins with a bracket; the lines of a JSONL file are objects.
    is_array = reader.peek() == "["
    if is_array:
        reader.drop(1)
    while True:
        reader.skip(_SEPARATOR if is_array else _SPACE)
        head = reader.peek()
        if not head:
            if is_array:
                raise DataFileError(f"{path}: is not JSON (the array is not closed: the file is cut off)")
            return
        if is_array and head == "]":
            reader.drop(1)
            reader.skip(_SPACE)
            if reader.peek():
                raise DataFileError(f"{path}: is not JSON (text after the end of the array, byte {reader.place})")
            return
        yield reader.take_object()


class _JsonWindow:
    """A window of decoded text that slides over a file and knows the byte at which it stands.

    `text` is the window, `at` the next character in it, and `place` the byte of that character in the file.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path, self.place = file, path, 0
        self.text, self.at, self.ended = "", 0, False
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        # The decoder drops a byte order mark, but the file has it: places count bytes of the file.
        if file.read(3) == codecs.BOM_UTF8:
            self.place = 3
        file.seek(0)
        self.json = json.JSONDecoder()

    def _more(self, size: int = _CHUNK) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        data = self.file.read(size)
        self.ended = not data
        try:
            self.text = self.text[self.at :] + self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise DataFileError(f"{self.path}: is not JSON in UTF-8 ({error.reason})") from error
        self.at = 0
        return True

    def peek(self) -> str:
        while self.at >= len(self.text) and self._more():
            pass
        return self.text[self.at : self.at + 1]

    def drop(self, characters: int) -> None:
        # Places are in bytes and the text is in characters; for ASCII, nearly all of a file, both are the same.
        piece = self.text[self.at : self.at + characters]
        self.at += characters
        self.place += len(piece) if piece.isascii() else len(piece.encode())

    def skip(self, pattern: re.Pattern[str]) -> None:
        while self.peek():
            match = pattern.match(self.text, self.at)
            self.drop(match.end() - self.at if match else 0)
            if self.at < len(self.text):
                return

    def take_object(self) -> tuple[int, int]:
        """Parse the entry that begins here and step over it."""
        start = self.place
        while True:
            try:
                entry, end = self.json.raw_decode(self.text, self.at)
                break
            except ValueError as error:
                # Not wrong yet: the entry may go on behind the window. The window doubles, so that parsing a long entry
                # again and again costs no more than twice its length.
                if not self._more(max(_CHUNK, len(self.text))):
                    raise DataFileError(f"{self.path}: is not JSON (the entry at byte {start}: {error})") from error
            except RecursionError as error:
                raise DataFileError(f"{self.path}: the entry at byte {start} is nested too deeply") from error
        if not isinstance(entry, dict | list):
            raise DataFileError(
                f"{self.path}: the entry at byte {start} is {type(entry).__name__} {str(entry)[:40]!r}, "
                "expected an object with 'conversations'"
            )
        self.drop(end - self.at)
        return start, self.place
