"""The one reader of tables that users bring: JSONL, JSON, CSV, TSV, Parquet and XLSX, as programs really write them.

A row is an object from column to value; its cells are read with `text_of`, `texts_of` and `whole_of`. A last line
without line end is a row: only files that we append to ourselves are cut there (`dyneval.files.store.JsonlStore`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Iterator
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
_MAX_ARRAY = 1 << 31


def rows(
    path: Path, columns: Collection[str] | None = None, needs: Collection[str] = (), key: str | None = None
) -> Iterator[Row]:
    """Yield the rows of a table, as `each_row`; the first bad one raises DataFileError, naming its line."""
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
    """Yield the rows of a table, and what is wrong with those that cannot be read.

    An empty cell of CSV is None; CSV's other cells are texts, the other kinds hold whatever values they hold.

    Args:
        path: its name says its kind, see `KINDS`.
        columns: leave out all others; of Parquet only these are read.
        needs: a header must have these. Rows of JSON have no header: they are taken as they are.
        key: a JSON file may also be an object that holds the list of rows under this name.
        text: an entry of JSON that is a text alone counts as a row with the text under this name.
        lenient: take letters of Windows-1252 among UTF-8 (see `decoded`) and half characters of JSON (lone surrogates)
            for what they are, as collections of prompts hold them.

    Raises:
        DataFileError: the file is missing, of no known kind, broken or beyond the limits; its header lacks a column
            or has one twice; a quotation mark goes astray; an XLSX file has rows in several sheets.
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
    """The ending of `kinds` that a file has, in lower case, without .gz. Raises DataFileError where it has none."""
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
    """How JSON is read, see `each_row`; `single`: the file may be one object over several lines."""

    key: str | None
    single: bool
    columns: Collection[str] | None
    text: str | None
    lenient: bool


def _json(path: Path, form: _JsonOptions) -> Iterator[Row | BadRow]:
    """Rows of an array, of lines, or of one object over several lines."""
    with opened(path) as file:
        first = _first(file)
        value = _whole(path, file, first) if first == "[" or (first == "{" and form.single) else None
    if value is not None:
        yield from _of_array(path, value, form)
        return
    with opened(path) as file:
        for number, line in byte_lines(file, path):
            yield _row(line, number, form)


def _first(file: io.BufferedReader) -> str:
    """The first character that is not blank."""
    head = file.peek(1 << 12)[: 1 << 12]
    return head.decode(encoding(file), "replace").lstrip("\ufeff \t\r\n")[:1]


def _whole(path: Path, file: io.BufferedReader, first: str) -> Any:
    """The file as one JSON value; None where it holds an object a line, whatever its name says."""
    code = encoding(file)
    content = file.read(_MAX_ARRAY + 1)
    if len(content) > _MAX_ARRAY:
        raise DataFileError(f"{path}: one JSON value of over {_MAX_ARRAY >> 30} GiB; write it as JSONL, a row a line")
    try:
        return _loads(content.decode(code))
    except (ValueError, RecursionError) as error:
        if first == "{" and _is_object(content.decode(code, "replace").splitlines()):
            return None
        raise DataFileError(f"{path}: is not JSON ({error})") from error


def _is_object(lines: Iterable[str]) -> bool:
    """Whether the first line that is not blank is an object of its own, as in JSONL."""
    try:
        return isinstance(_loads(next((line for line in lines if line.strip(" \ufeff")), "")), dict)
    except (ValueError, RecursionError):
        return False


def _of_array(path: Path, value: Any, form: _JsonOptions) -> Iterator[Row | BadRow]:
    if isinstance(value, dict):
        value = value.get(form.key) if form.key else [value]
    if not isinstance(value, list):
        raise DataFileError(f"{path}: expected a list of {form.key}, or an object with the key {form.key}")
    for number, row in enumerate(value, 1):
        yield _checked(row, number, form)


def _row(line: bytes, number: int, form: _JsonOptions) -> Row | BadRow:
    try:
        row = _lenient(line) if form.lenient else _loads(line)
        twice = [name for name in form.columns or () if line.count(b'"%b"' % name.encode()) > 1 and _twice(line, name)]
    except (ValueError, RecursionError) as error:
        return BadRow(number, f"is not JSON ({error})")
    if twice:
        return BadRow(number, f"has more than one {twice[0]!r}; which one counts is not known")
    return _checked(row, number, form)


def _checked(row: Any, number: int, form: _JsonOptions) -> Row | BadRow:
    if isinstance(row, str) and form.text is not None:
        return {form.text: row}
    return row if isinstance(row, dict) else BadRow(number, f"expected a JSON object, found {type(row).__name__}")


def _twice(line: bytes, name: str) -> bool:
    """Whether an object has a key twice, of which parsers take the last one."""
    pairs = json.loads(decoded(line), object_pairs_hook=list)
    return isinstance(pairs, list) and [key for key, _ in pairs].count(name) > 1


def _lenient(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return json.loads(decoded(line))


def _loads(text: str | bytes) -> Any:
    """Parse JSON, with the NaN and Infinity that Python and pandas write where they have no number.

    Raises ValueError, also on half a character (lone surrogate).
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
