"""A row of a table, what its cells say, and what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dyneval.errors import DataFileError

Value = TypeVar("Value")


class BadRow(NamedTuple):
    """A row that cannot be used: its line in the file (its number, where there are no lines), and why."""

    line: int
    reason: str


class ColumnError(DataFileError):
    """A table lacks a column; the message names it, and those that there are."""


def require(path: Path, columns: Collection[str], needs: Collection[str]) -> None:
    """Raise DataFileError when a table with these `columns` lacks one that it `needs`."""
    missing = [name for name in needs if name not in columns]
    if missing:
        raise ColumnError(f"{path}: lacks the column {' and '.join(missing)}; it has {', '.join(columns) or 'none'}")


def text_of(value: Any) -> str | None:
    """What a cell says, as text; None where it says nothing: null, NaN, blank.

    Numbers are written as whole ones where they are: pandas makes 1.0 of the id 1 in a column with gaps. 0 is a number.

    Raises:
        TypeError: the cell holds a list, an object, bytes, or true or false.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a text, found {type(value).__name__} {str(value)[:40]!r}")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts of a cell that holds a list of them, or one; blank ones and nulls are left out. See `text_of`."""
    listed = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(text.strip() for one in listed if (text := text_of(one)) is not None)


def whole_of(value: Any) -> int | None:
    """The whole number in a cell, be it written as 1, 1.0 or text; None where it says nothing. TypeError otherwise."""
    text = text_of(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise TypeError(f"expected a whole number, found {text[:40]!r}")
    return int(number)


def cell(row: Mapping[str, Any], column: str, read: Callable[[Any], Value], where: str) -> Value:
    """Read a cell with `text_of` or its like; a missing one is None. DataFileError with `where` and the column."""
    try:
        return read(row.get(column))
    except TypeError as error:
        raise DataFileError(f"{where}: {column}: {error}") from error
