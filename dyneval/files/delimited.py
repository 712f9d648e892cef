"""CSV and its kin, strictly: commas, semicolons or tabs, quoted line breaks, any line end; ragged rows are said."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.errors import DataFileError
from dyneval.files.opening import MAX_LINE, opened, text_lines
from dyneval.files.row import BadRow, require
from dyneval.structs import Row

if TYPE_CHECKING:
    from _csv import Reader

MAX_CELL = 1 << 24
"""Characters; the csv module's own limit of 128 KiB would end the file at one long prompt or model reply."""
_FORMULA = re.compile(r"'*(\s*[=+\-@＝＋－＠]|\t)")
"""How cells begin that spreadsheets run, whatever ' stand before; the wide letters do it in Japanese ones."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def read(
    path: Path, columns: Collection[str] | None, needs: Collection[str], tabs: bool, lenient: bool
) -> Iterator[Row | BadRow]:
    """Yield the rows under the header; an empty cell is None. See `dyneval.files.tables.each_row`."""
    csv.field_size_limit(MAX_CELL)
    try:
        with opened(path) as file:
            yield from _rows(path, text_lines(file, path, lenient), columns, needs, "\t" if tabs else ",")
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: cannot be read as CSV in UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataFileError(f"{path}: its header cannot be read as CSV ({error})") from error


def harmless(cell: str) -> str:
    """A cell of a CSV that we write: on one line, and with a ' before what a spreadsheet would run as a formula."""
    cell = re.sub(r"[\r\n]+", " ", cell)
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def as_meant(cell: str) -> str:
    """The text that became this cell by `harmless`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _rows(
    path: Path, lines: Iterator[str], columns: Collection[str] | None, needs: Collection[str], usual: str
) -> Iterator[Row | BadRow]:
    skipped, first, delimiter = _head(lines, usual)
    if first.endswith("\n"):
        lines = _whole_lines(path, lines)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    records = _records(path, reader, skipped)
    _, header = next(records, (0, []))
    names = [name.strip() for name in header]
    require(path, [name for name in names if name], needs)
    wanted = [(place, name) for place, name in enumerate(names) if name and (columns is None or name in columns)]
    refuse_twice(path, [name for _, name in wanted])
    for number, (line, cells) in enumerate(records, 1):
        fault = None if len(cells) == len(names) else _ragged(number, cells, names, delimiter)
        if fault:
            yield BadRow(line, fault)
        else:
            yield {name: cells[place] or None for place, name in wanted}


def _head(lines: Iterator[str], usual: str) -> tuple[int, str, str]:
    """Lines passed over, the header's (first) line, and the delimiter: the one that cuts the header into most cells."""
    for skipped, line in enumerate(lines):
        if line.lower().startswith("sep=") and len(line.rstrip("\r\n")) == len("sep=;"):  # Excel's own hint
            return skipped + 1, next(lines, ""), line[len("sep=")]
        if line.strip():
            cells = {mark: len(next(csv.reader([line], delimiter=mark))) for mark in (usual, *_NAMES)}
            return skipped, line, max(cells, key=lambda mark: cells[mark])
    return 0, "", usual


def _whole_lines(path: Path, lines: Iterator[str]) -> Iterator[str]:
    r"""Lines that end with \n, in a file whose first one does.

    There a lone \r is text that somebody typed, as in the free text of GenEval's raters. Outside of quotation marks csv
    would end the row at it, so it becomes a blank.
    """
    parts: list[str] = []
    length, is_quoted = 0, False
    for line in lines:
        is_quoted ^= line.count('"') % 2 == 1
        is_whole = not line.endswith("\r")
        parts.append(line if is_whole or is_quoted else line[:-1] + " ")
        length += len(line)
        if length > MAX_LINE:
            raise DataFileError(f"{path}: a line is longer than {MAX_LINE >> 20} MiB; expected a row a line")
        if is_whole:
            yield "".join(parts)
            parts, length = [], 0
    if parts:
        yield "".join(parts)


def _records(path: Path, reader: Reader, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """The line at which each record begins, and its cells; records without any text are passed over."""
    number = 0  # of the row; the header is row 0
    while True:
        line = reader.line_num + skipped + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Where a quotation mark goes astray nobody knows what is a row and what a cell: no row after it counts.
            where = f"{path}:{line}: row {number}"
            if "end of data" in str(error):
                raise DataFileError(f"{where}: a quotation mark opens a cell and never closes it") from error
            raise DataFileError(
                f"{where}: cannot be read as CSV ({error}); a quotation mark within a quoted cell is written twice"
            ) from error
        if any(cells):
            yield line, cells
            number += 1


def _ragged(number: int, cells: Sequence[str], names: Sequence[str], delimiter: str) -> str | None:
    if len(cells) >= len(names) and not any(cells[len(names) :]):
        return None
    mark = _NAMES.get(delimiter, repr(delimiter))
    return (
        f"row {number} has {len(cells)} cells, expected {len(names)} ({', '.join(names)}); "
        f"a cell that holds {mark} or a line break stands in quotation marks"
    )


def refuse_twice(path: Path, names: Sequence[str]) -> None:
    """Raise DataFileError when two columns have one name."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataFileError(
            f"{path}: more than one column is called {twice[0]!r}; which one counts is not known, rename or remove one"
        )
