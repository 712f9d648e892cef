"""Read the cells of a row: texts, lists of texts and whole numbers, as programs really write them.

pandas makes 1.0 of the id 1 in a column with gaps, spreadsheets write "nan", and an empty cell may be null or blank. If
each reader dealt with that in its own way, the id of an image would be "1" in one step and "1.0" in the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dyneval.errors import DataFileError

Value = TypeVar("Value")


class BadRow(NamedTuple):
    """A row that cannot be used, and why; `line` is its line in the file, or its number where there are no lines."""

    line: int
    reason: str


class ColumnError(DataFileError):
    """A table lacks a column; the message names it, and those that there are."""


def require(path: Path, columns: Collection[str], needs: Collection[str]) -> None:
    """Refuse a table that lacks a column.

    Args:
        path: of the table, for the message.
        columns: those that it has.
        needs: those that it must have.

    Raises:
        ColumnError: it lacks one or more; the message names all of them.
    """
    missing = [name for name in needs if name not in columns]
    if missing:
        kind = "columns" if len(missing) > 1 else "column"
        there = ", ".join(columns) or "none"
        raise ColumnError(f"{path}: lacks the {kind} {' and '.join(missing)}; it has {there}")


def text_of(value: Any) -> str | None:
    """The content of a cell as text; None where it is empty: null, NaN or blank.

    Numbers without a fraction are written without a point; 0 is a number like any other.

    Raises:
        TypeError: the cell holds a list, an object, bytes, or true or false.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected a text, found {type(value).__name__} {str(value)[:40]!r}")
    # pandas makes 1.0 of the id 1 in a column with gaps.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def texts_of(value: Any) -> tuple[str, ...]:
    """The texts of a cell that holds a list of texts or one text; blank ones and nulls are left out. See `text_of`."""
    listed = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(text.strip() for one in listed if (text := text_of(one)) is not None)


def whole_of(value: Any) -> int | None:
    """The whole number in a cell, written as 1, as 1.0 or as text; None where the cell is empty.

    Raises:
        TypeError: the cell holds anything else.
    """
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
    """Read a cell of a row, a missing one as None.

    Args:
        row: values by column.
        column: the cell's.
        read: one of `text_of`, `texts_of` and `whole_of`.
        where: file and row, for the message.

    Raises:
        DataFileError: `read` refuses the cell.
    """
    try:
        return read(row.get(column))
    except TypeError as error:
        raise DataFileError(f"{where}: {column}: {error}") from error
