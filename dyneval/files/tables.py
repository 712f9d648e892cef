r"""Read tables that users bring: JSONL, JSON, CSV, TSV, Parquet and XLSX, as programs really write them.

    from pathlib import Path

    from dyneval.files.tables import rows, text_of

    Path("pairs.csv").write_text("file_name,prompt\ncat.png,a cat on a bench\n")
    for row in rows(Path("pairs.csv"), needs=("prompt",)):
        print(text_of(row["prompt"]))

Every step reads users' tables here, and reads them strictly: a row that is dropped, or cut into the wrong cells, would
only show as a wrong number in the end. A last line without line end is a row; only files that we append to ourselves
are cut there (`dyneval.files.store.JsonlStore`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from dyneval.errors import DataFileError
from dyneval.files import delimited, parquet, sheet
from dyneval.files.opening import PACKED, byte_lines, decoded, encoding, opened
from dyneval.files.row import BadRow, cell, text_of, texts_of, whole_of
from dyneval.structs import Row

__all__ = ["BadRow", "cell", "each_row", "kind_of", "rows", "text_of", "texts_of", "whole_of"]

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx", ".xlsm")
"""Endings of the names of tables, upper or lower case; those of text may be packed (.csv.gz, .jsonl.zst)."""
_PACKED_INSIDE = (".parquet", ".xlsx", ".xlsm")
_OTHER_SHEETS = (".xls", ".xlsb", ".ods", ".numbers")
# Bytes of a file that is one JSON value: it is parsed in memory, where it takes several times its size.
_MAX_ARRAY = 1 << 31


def rows(
    path: Path, columns: Collection[str] | None = None, needs: Collection[str] = (), key: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a table, for readers that need all of them.

    For the arguments see `each_row`. Rows before a bad one have been yielded when it raises.

    Raises:
        DataFileError: as `each_row`, and at the first row that cannot be read; the message names its line.
    """
    for row in each_row(path, columns, needs, key):
        if isinstance(row, BadRow):
            raise DataFileError(f"{path}:{row.line}: {row.reason}")
        yield row


def each_row(
    path: Path,
    columns: Collection[str] | None = None,
    needs: Collection[str] = (),
    key: str | None = None,
    *,
    text: str | None = None,
    lenient: bool = False,
) -> Iterator[Row | BadRow]:
    """Yield the rows of a table by column, and a BadRow for each row that cannot be read.

    An empty cell of CSV is None and other cells are texts; the other kinds have whatever values they hold.

    Args:
        path: the file; its name says its kind, see `KINDS`.
        columns: leave out all others; of Parquet only these are read.
        needs: columns that a header must have. Rows of JSON have no header and are taken as they are.
        key: a JSON file may also be an object that holds the list of rows under this name.
        text: a bare text in JSON counts as a row with the text under this name.
        lenient: accept letters of Windows-1252 among UTF-8 (see `decoded`) and half characters in JSON (lone
            surrogates), which collections of prompts hold.

    Raises:
        DataFileError: the file is missing, of no known kind, broken or beyond the limits; its header lacks a column
            or has one twice; a quotation mark is never closed; an XLSX file has rows in several sheets.
    """
    kind = kind_of(path)
    if kind == ".parquet":
        yield from parquet.read(path, columns, needs)
    elif kind in (".xlsx", ".xlsm"):
        yield from sheet.read(path, columns, needs)
    elif kind in (".csv", ".tsv"):
        yield from delimited.read(path, columns, needs, kind == ".tsv", lenient)
    else:
        form = _JsonOptions(key if kind == ".json" else None, kind == ".json", columns, text, lenient)
        for row in _json(path, form):
            if columns is None or isinstance(row, BadRow):
                yield row
            else:
                yield {name: row[name] for name in columns if name in row}


def kind_of(path: Path, kinds: Collection[str] = KINDS) -> str:
    """The ending of a file among `kinds`, in lower case, without .gz or .zst. Raises DataFileError: it is another."""
    suffixes = [suffix.lower() for suffix in path.suffixes] or [""]
    packed = suffixes[-1] in PACKED and len(suffixes) > 1
    kind = suffixes[-2] if packed else suffixes[-1]
    if kind in kinds and not (packed and kind in _PACKED_INSIDE):
        return kind
    hint = "; save the sheet as CSV in UTF-8" if kind in _OTHER_SHEETS else ""
    raise DataFileError(
        f"{path}: files called *{path.suffix or path.name} are not read; expected {', '.join(kinds)}{hint}"
    )


class _JsonOptions(NamedTuple):
    """How JSON is read, see `each_row`; `single`: the file may be one object that takes several lines."""

    key: str | None
    single: bool
    columns: Collection[str] | None
    text: str | None
    lenient: bool


def _json(path: Path, form: _JsonOptions) -> Iterator[Row | BadRow]:
    """Yield the rows of a file that is an array, an object a line, or one object over several lines.

    The content decides, not the ending: many .json files hold an object a line, and some .jsonl files an array.
    """
    with opened(path) as file:
        head = file.peek(1 << 12)[: 1 << 12].decode(encoding(file), "replace")
        first = head.lstrip("\ufeff \t\r\n")[:1]
        value = _whole(path, file, first) if first == "[" or (first == "{" and form.single) else None
    if value is None:
        with opened(path) as file:
            for number, line in byte_lines(file, path):
                yield _row(line, number, form)
        return
    if isinstance(value, dict):
        value = value.get(form.key) if form.key else [value]
    if not isinstance(value, list):
        raise DataFileError(f"{path}: expected a list of {form.key}, or an object with the key {form.key}")
    for number, row in enumerate(value, 1):
        yield _checked(row, number, form)


def _whole(path: Path, file: io.BufferedReader, first: str) -> Any:
    """The file as one JSON value; None where it holds an object a line. Raises DataFileError."""
    code = encoding(file)
    content = file.read(_MAX_ARRAY + 1)
    if len(content) > _MAX_ARRAY:
        raise DataFileError(f"{path}: one JSON value of over {_MAX_ARRAY >> 30} GiB; write it as JSONL, a row a line")
    try:
        return _loads(content.decode(code))
    except (ValueError, RecursionError) as error:
        # JSONL, if the first line that is not blank is an object of its own.
        lines = content.decode(code, "replace").splitlines() if first == "{" else []
        with suppress(ValueError, RecursionError):
            if isinstance(_loads(next((line for line in lines if line.strip(" \ufeff")), "")), dict):
                return None
        raise DataFileError(f"{path}: is not JSON ({error})") from error


def _row(line: bytes, number: int, form: _JsonOptions) -> Row | BadRow:
    try:
        try:
            row = orjson.loads(line) if form.lenient else _loads(line)
        except ValueError:
            if not form.lenient:
                raise
            row = json.loads(decoded(line))  # the standard library accepts half characters
        # Parsers silently take the last of two values for a key. Counting is cheap, so only suspects are parsed again.
        columns = form.columns or () if isinstance(row, dict) else ()
        suspects = [name for name in columns if line.count(b'"%b"' % name.encode()) > 1]
        keys = [key for key, _ in json.loads(decoded(line), object_pairs_hook=list)] if suspects else []
        twice = [name for name in suspects if keys.count(name) > 1]
    except (ValueError, RecursionError) as error:
        return BadRow(number, f"is not JSON ({error})")
    if twice:
        return BadRow(number, f"has more than one {twice[0]!r}; which one counts is not known")
    return _checked(row, number, form)


def _checked(row: Any, number: int, form: _JsonOptions) -> Row | BadRow:
    if isinstance(row, str) and form.text is not None:
        return {form.text: row}
    return row if isinstance(row, dict) else BadRow(number, f"expected a JSON object, found {type(row).__name__}")


def _loads(text: str | bytes) -> Any:
    """Parse JSON, also with the NaN and Infinity that Python and pandas write where they have no number.

    Raises ValueError, also for half a character (a lone surrogate).
    """
    try:
        return orjson.loads(text)
    except ValueError:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        if "NaN" not in plain and "Infinity" not in plain:
            raise
    value = json.loads(plain)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # the standard library takes lone surrogates
    return value
