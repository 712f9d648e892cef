"""The one reader of tables that users bring: JSONL, JSON, CSV, TSV and Parquet, as programs really write them.

A row is an object from column to value; its cells are read with `text_of`, `texts_of` and `whole_of`. A last line
without line end is a row: only files that we append to ourselves are cut there (`dyneval.files.store.JsonlStore`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import orjson

from dyneval.errors import DataFileError
from dyneval.files import delimited, parquet
from dyneval.files.opening import PACKED, byte_lines, encoding, opened
from dyneval.files.row import BadRow, cell, text_of, texts_of, whole_of
from dyneval.structs import Row

__all__ = ["BadRow", "cell", "each_row", "rows", "text_of", "texts_of", "whole_of"]

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Endings of the names of tables, upper or lower case; those of text may be packed (.csv.gz, .jsonl.zst)."""
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
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
    path: Path, columns: Collection[str] | None = None, needs: Collection[str] = (), key: str | None = None
) -> Iterator[Row | BadRow]:
    """Yield the rows of a table, and what is wrong with those that cannot be read.

    An empty cell of CSV is None; CSV's other cells are texts, the other kinds hold whatever values they hold.

    Args:
        path: its name says its kind, see `KINDS`.
        columns: leave out all others; of Parquet only these are read.
        needs: a header must have these. Rows of JSON have no header: they are taken as they are.
        key: a JSON file may also be an object that holds the list of rows under this name.

    Raises:
        DataFileError: the file is missing, of no known kind, broken or beyond the limits; its header lacks a column
            or has one twice; a quotation mark goes astray.
    """
    kind = _kind(path)
    if kind == ".parquet":
        yield from parquet.read(path, columns, needs)
    elif kind in (".csv", ".tsv"):
        yield from delimited.read(path, columns, needs, tabs=kind == ".tsv")
    else:
        for row in _json(path, key if kind == ".json" else None, single=kind == ".json"):
            if columns is None or isinstance(row, BadRow):
                yield row
            else:
                yield {name: row[name] for name in columns if name in row}


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes] or [""]
    packed = suffixes[-1] in PACKED and len(suffixes) > 1
    kind = suffixes[-2] if packed else suffixes[-1]
    if kind in KINDS and not (packed and kind == ".parquet"):  # Parquet is packed inside
        return kind
    hint = "; save the sheet as CSV in UTF-8" if kind in _SHEETS else ""
    raise DataFileError(
        f"{path}: files called *{path.suffix or path.name} are not read; tables are read from {', '.join(KINDS)}{hint}"
    )


def _json(path: Path, key: str | None, single: bool) -> Iterator[Row | BadRow]:
    """Rows of an array, of lines, or (`single`) of one object over several lines."""
    with opened(path) as file:
        first = _first(file)
        value = _whole(path, file, first) if first == "[" or (first == "{" and single) else None
    if value is not None:
        yield from _of_array(path, value, key)
        return
    with opened(path) as file:
        for number, line in byte_lines(file, path):
            yield _row(line, number)


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
        if first == "{":
            return None
        raise DataFileError(f"{path}: is not JSON ({error})") from error


def _of_array(path: Path, value: Any, key: str | None) -> Iterator[Row | BadRow]:
    if isinstance(value, dict):
        value = value.get(key) if key else [value]
    if not isinstance(value, list):
        raise DataFileError(f"{path}: expected a list of {key}, or an object with the key {key}")
    for number, row in enumerate(value, 1):
        yield row if isinstance(row, dict) else _no_object(row, number)


def _row(line: bytes, number: int) -> Row | BadRow:
    try:
        row = _loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(number, f"is not JSON ({error})")
    return row if isinstance(row, dict) else _no_object(row, number)


def _no_object(row: Any, number: int) -> BadRow:
    return BadRow(number, f"expected a JSON object, found {type(row).__name__}")


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
