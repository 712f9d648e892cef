"""Read CSV and TSV strictly: commas, semicolons or tabs, quoted line breaks, any line end.

A row with too many or too few cells is reported with its line, never padded; a lost quotation mark ends the reading.
The csv module alone would take both, and put the texts of one column into another without a word. `harmless` and
`as_meant` are for the CSV files that we write: a cell that a spreadsheet would run as a formula gets a ' in front.
"""

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

# Characters; the csv module's own limit of 128 KiB would end the file at one long prompt or model reply.
MAX_CELL = 1 << 24
# How cells begin that spreadsheets run as formulas, whatever ' stand before; in Japanese ones the wide letters do it.
_FORMULA = re.compile(r"'*(\s*[=+\-@＝＋－＠]|\t)")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def read(
    path: Path, columns: Collection[str] | None, needs: Collection[str], tabs: bool, lenient: bool
) -> Iterator[Row | BadRow]:
    """Yield the rows under the header; an empty cell is None. `tabs`: of cells between tabs, as in TSV.

    For the other arguments and the errors see `dyneval.files.tables.each_row`.
    """
    csv.field_size_limit(MAX_CELL)
    try:
        with opened(path) as file:
            yield from _rows(path, text_lines(file, path, lenient), columns, needs, "\t" if tabs else ",")
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: cannot be read as CSV in UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataFileError(f"{path}: its header cannot be read as CSV ({error})") from error


def harmless(cell: str) -> str:
    """A cell for a CSV file that we write: on one line, with a ' in front of what a spreadsheet would run."""
    cell = re.sub(r"[\r\n]+", " ", cell)
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def as_meant(cell: str) -> str:
    """The text that `harmless` made into this cell."""
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
        # Empty cells beyond the header are what spreadsheets leave of deleted columns.
        if len(cells) < len(names) or any(cells[len(names) :]):
            mark = _NAMES.get(delimiter, repr(delimiter))
            yield BadRow(
                line,
                f"row {number} has {len(cells)} cells, expected {len(names)} ({', '.join(names)}); "
                f"a cell that holds {mark} or a line break stands in quotation marks",
            )
        else:
            yield {name: cells[place] or None for place, name in wanted}


def _head(lines: Iterator[str], usual: str) -> tuple[int, str, str]:
    """Number of lines before the header, its first line, and the delimiter: the one that makes most cells of it."""
    for skipped, line in enumerate(lines):
        if line.lower().startswith("sep=") and len(line.rstrip("\r\n")) == len("sep=;"):  # Excel's own hint
            return skipped + 1, next(lines, ""), line[len("sep=")]
        if line.strip():
            cells = {mark: len(next(csv.reader([line], delimiter=mark))) for mark in (usual, *_NAMES)}
            return skipped, line, max(cells, key=lambda mark: cells[mark])
    return 0, "", usual


def _whole_lines(path: Path, lines: Iterator[str]) -> Iterator[str]:
    r"""Join lines that end with a lone \r, in a file whose first line ends with \n.

    In such a file a lone \r is text that somebody typed, as in the free text of GenEval's raters. Outside of quotation
    marks the csv module would end the row at it, so it becomes a blank.
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
    """Yield the line at which each record begins, and its cells; records without any text are skipped."""
    number = 0  # of the row; the header is row 0
    while True:
        line = reader.line_num + skipped + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Behind a lost quotation mark nobody knows what is a row and what a cell, so no row after it counts.
            where = f"{path}:{line}: row {number}"
            if "end of data" in str(error):
                raise DataFileError(f"{where}: a quotation mark opens a cell and never closes it") from error
            raise DataFileError(
                f"{where}: cannot be read as CSV ({error}); a quotation mark within a quoted cell is written twice"
            ) from error
        if any(cells):
            yield line, cells
            number += 1


def refuse_twice(path: Path, names: Sequence[str]) -> None:
    """Raise DataFileError when two columns have the same name."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataFileError(
            f"{path}: more than one column is called {twice[0]!r}; which one counts is not known, rename or remove one"
        )
