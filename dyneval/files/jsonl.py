"""Our own JSONL files, line by line: rows, a last line that was cut off, and the places and keys of rows.

Only files that DynEval appends to are read here; those of users go through `dyneval.files.tables`. The difference
matters: in our files a last line without a newline was being written when the writer was killed, and is left out. In a
file of somebody else it is a row like any other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson

from dyneval.errors import DataFileError, SchemaError, unreadable
from dyneval.structs import Record, Row

_VERSION = b'"prompt_version": "'


def whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, except a last one without newline. Raises DataFileError if it cannot be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


R = TypeVar("R", bound=Record)


def read_records(path: Path, record: type[R]) -> Iterator[R]:
    """Yield the records of a JSONL file of ours. Raises DataFileError and SchemaError, naming the line."""
    for number, line in enumerate(whole_lines(path), 1):
        if line.strip():
            yield record.decode(line, f"{path}:{number}")


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSONL file of ours, one a line; blank lines, and a last line without newline, are skipped.

    Raises:
        DataFileError: the file is missing, or a line is not a JSON object; the message names file and line.
    """
    for number, line in enumerate(whole_lines(path), 1):
        if line.strip():
            yield parse(path, number, line)


def parse(path: Path, number: int, line: bytes) -> Row:
    """Parse a line of a file of ours. `path` and `number`, from 1, are for the message.

    Raises:
        DataFileError: the line is not a JSON object.
    """
    # orjson is four times as fast as the standard library. It makes floats of integers beyond 64 bits.
    try:
        row = orjson.loads(line)
    except ValueError as error:
        raise DataFileError(f"{path}:{number}: is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataFileError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return row


def to_line(row: Row | list[Any]) -> bytes:
    """Return a row, or a list, as a line of a file.

    Raises:
        SchemaError: it holds NaN, infinity or half a character (a lone surrogate).
    """
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    except ValueError as error:
        name = next(iter(row.values() if isinstance(row, dict) else row), "")
        raise SchemaError(f"{str(name)[:80]!r}: the row cannot be written as JSON ({error})") from error


def scan(path: Path, key: str) -> Iterator[tuple[int, str, str | None]]:
    """Yield the place in bytes, the key and the prompt_version of every whole row.

    Args:
        path: a file of `JsonlStore`.
        key: name of the field that holds the key.

    Raises:
        DataFileError: the file cannot be read, or a row is not JSON or has no key.
    """
    # Rows as `JsonlStore` writes them are not parsed, so that a run over 250,000 rows resumes in about a second. Their
    # key is the first field, and `"prompt_version": "` cannot stand in a JSON string, which would escape its quotes.
    opening = f'{{"{key}": "'.encode()
    place = 0
    for number, line in enumerate(whole_lines(path), 1):
        end = line.find(b'"', len(opening)) if line.startswith(opening) else -1
        simple = end > 0 and b"\\" not in line[:end] and line.endswith(b"}\n")
        key_text = _text(line[len(opening) : end]) if simple else None
        if key_text is not None:
            version, start = None, line.rfind(_VERSION)
            if start >= 0:
                start += len(_VERSION)
                version = _text(line[start : line.find(b'"', start)])
            yield place, key_text, version
        elif line.strip():
            row = parse(path, number, line)
            if key not in row:
                raise DataFileError(f"{path}:{number}: has no {key}, so it is a file of another kind; name another one")
            provenance = row.get("provenance")
            version = provenance.get("prompt_version") if isinstance(provenance, dict) else None
            yield place, str(row.get(key)), version
        place += len(line)


def places(path: Path, key: str, block: int = 1 << 18) -> Iterator[tuple[int, int, str]]:
    """Yield place and length in bytes, and the key, of every whole row of a file; six times as fast as `scan`.

    Args:
        path: a file of `JsonlStore`.
        key: name of the field that holds the key.
        block: bytes that are read at a time. A block that fits into the processor's cache takes half the time of one
            that does not.

    Raises:
        DataFileError: the file cannot be read, or a row is not JSON.
    """
    opening = f'{{"{key}": "'.encode()
    base, number, rest = 0, 0, b""
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        while more := file.read(block):
            data, place = rest + more, 0
            while (newline := data.find(b"\n", place)) >= 0:
                number += 1
                name, begin = None, place + len(opening)
                # The key is read from the bytes where the row begins with it, as `JsonlStore` writes rows.
                if data[place:begin] == opening and data[newline - 1 : newline] == b"}":
                    end = data.find(b'"', begin, newline)
                    if end >= 0 and b"\\" not in (key_bytes := data[begin:end]):
                        name = _text(key_bytes)
                if name is None and (line := data[place:newline].strip()):
                    name = str(parse(path, number, line).get(key))
                if name is not None:
                    yield base + place, newline - place, name
                place = newline + 1
            base, rest = base + place, data[place:]


def _text(data: bytes) -> str | None:
    """`data` decoded, or None where it is not UTF-8: the line is then parsed, and that raises the error."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def write_whole(file: IO[bytes], data: bytes, end: int) -> None:
    """Write all of `data` to an unbuffered file, or nothing.

    Args:
        file: open for appending, unbuffered.
        data: what is written.
        end: size of the file in bytes before; where the write fails, the file is cut there again.

    Raises:
        OSError: the file cannot be written, as on a full disk.
    """
    try:
        rest = memoryview(data)
        # An unbuffered file may take only a part, as on a disk that is nearly full.
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        file.truncate(end)
        raise


def refuse_foreign(path: Path, key: str, block: int = 1 << 16) -> int:
    """Find where a last line without newline begins; the size of the file where there is none.

    Such a line was being written when its writer was killed, and is to be cut off there.

    Args:
        path: the file, of any size; it is read backwards.
        key: name of the field that begins each row of ours.
        block: bytes that are read at a time.

    Raises:
        DataFileError: the last line is no part of a row of ours.
    """
    with path.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        while place > 0:
            start = max(0, place - block)
            file.seek(start)
            newline = file.read(place - start).rfind(b"\n")
            place = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        file.seek(place)
        last = file.read()
    line = last.rstrip(b"\0")  # a power cut may leave zeros in place of what was written last
    if not line or line.startswith(f'{{"{key}"'.encode()):
        return place
    # The key may stand further behind. But a complete object that does not begin with it is a row of another program.
    try:
        orjson.loads(line)
        is_part_of_row = False
    except ValueError:
        is_part_of_row = line.startswith(b"{")
    if not is_part_of_row:
        raise DataFileError(
            f"{path}: its last line is no record ({last[:40].decode(errors='replace')}...), so it is a file of "
            "another kind; it is left as it is, name another --output"
        )
    return place
