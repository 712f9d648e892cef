"""Read an XLSX file with one filled sheet as a table, row by row, after its unpacked size was checked.

With two filled sheets nobody knows which one counts, so that is an error. An XLSX file is a zip archive of XML: a small
one may unpack to gigabytes, and may claim a billion rows that are not there.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.errors import DataFileError
from dyneval.files.delimited import refuse_twice
from dyneval.files.opening import check_unpacked, refuse_pointer
from dyneval.files.row import BadRow, require
from dyneval.structs import Row

if TYPE_CHECKING:
    from openpyxl import Workbook

# Bytes that a file may unpack to in any case: a million cells or two.
_FLOOR = 1 << 26
# Bytes that are unpacked at most, however large the packed file is.
_MOST = 1 << 30
# As many rows as a sheet can have. A file may call its only row the billionth, and openpyxl then yields all before it.
_MAX_ROWS = 1 << 20


def read(path: Path, columns: Collection[str] | None, needs: Collection[str]) -> Iterator[Row | BadRow]:
    """Yield the rows below the header, which is the first row that is not empty.

    Numbers stay numbers, dates become texts such as 2026-11-29, and a formula has the value that was last computed.
    For the arguments and the errors see `dyneval.files.tables.each_row`.
    """
    try:
        import openpyxl
    except ImportError:
        raise DataFileError(
            f"{path}: sheets are read with openpyxl, which is not here; pip install 'dyneval[excel]', "
            "or save the sheet as CSV in UTF-8"
        ) from None
    refuse_pointer(path)
    try:
        # zipfile unpacks no more of a part than the archive says here, so the sum is an upper bound.
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        check_unpacked(path, size, _FLOOR)
        if size > _MOST:
            raise DataFileError(f"{path}: unpacks to over {_MOST >> 30} GiB; save the sheet as CSV in UTF-8")
        with closing(openpyxl.load_workbook(path, read_only=True, data_only=True)) as book:
            yield from _rows(path, _only_sheet(path, book), columns, needs)
    except DataFileError:
        raise
    except Exception as error:  # zipfile, the XML parser and openpyxl raise almost anything for a broken file
        raise DataFileError(f"{path}: cannot be read as XLSX, or has a password ({error})") from error


def _only_sheet(path: Path, book: Workbook) -> Iterator[Sequence[Any]]:
    """The rows of the one sheet that has any. Raises DataFileError where several have."""
    names = []
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # openpyxl would else believe the size that the file claims, and cut rows off
        if any(map(_filled, _bounded(path, sheet.iter_rows(values_only=True)))):
            names.append(sheet.title)
    if len(names) > 1:
        raise DataFileError(
            f"{path}: has {len(names)} sheets with rows, {', '.join(names)}; keep one, or save it as CSV"
        )
    return _bounded(path, book[names[0]].iter_rows(values_only=True)) if names else iter(())


def _bounded(path: Path, rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    for number, row in enumerate(rows, 1):
        if number > _MAX_ROWS:
            raise DataFileError(f"{path}: says that it has a row beyond {_MAX_ROWS:,}, which no sheet has")
        yield row


def _filled(cells: Sequence[Any]) -> bool:
    return any(_cell_value(cell) is not None for cell in cells)


def _rows(
    path: Path, rows: Iterator[Sequence[Any]], columns: Collection[str] | None, needs: Collection[str]
) -> Iterator[Row | BadRow]:
    from openpyxl.cell.cell import ERROR_CODES

    names: list[str] | None = None
    wanted: list[tuple[int, str]] = []
    for number, cells in enumerate(rows, 1):
        if not _filled(cells):
            continue
        if names is None:
            names = ["" if _cell_value(cell) is None else str(_cell_value(cell)).strip() for cell in cells]
            require(path, [name for name in names if name], needs)
            wanted = [
                (place, name) for place, name in enumerate(names) if name and (columns is None or name in columns)
            ]
            refuse_twice(path, [name for _, name in wanted])
            continue
        row = {name: _cell_value(cells[place]) if place < len(cells) else None for place, name in wanted}
        errors = [f"{name}: holds the error {value}" for name, value in row.items() if value in ERROR_CODES]
        if _filled(cells[len(names) :]):
            yield BadRow(number, f"has a cell beyond the header ({', '.join(filter(None, names))})")
        else:
            yield BadRow(number, errors[0]) if errors else row
    if names is None:
        require(path, [], needs)


def _cell_value(value: Any) -> Any:
    """The value of a cell as JSON can hold it; None where it is empty or blank."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, datetime.datetime):
        return (value.date() if value.time() == datetime.time() else value).isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, datetime.timedelta) else value
