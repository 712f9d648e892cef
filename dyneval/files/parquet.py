"""Read Parquet tables as rows, after their footer has told how large they are when unpacked.

A Parquet file of a few kB may unpack to hundreds of gigabytes, and polars would try. So the sizes in the footer are
read first, with a reader of our own: polars does not give them, and pyarrow comes only with another extra.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.errors import DataFileError
from dyneval.files.opening import check_unpacked, refuse_pointer
from dyneval.files.row import BadRow, require
from dyneval.structs import Row

if TYPE_CHECKING:
    import polars as pl

# Rows that are made into dicts at a time: all at once, they would take many times the memory of the columns.
_SLICE = 1000
FLOOR = 1 << 28
"""Bytes that a table may unpack to in any case, see `dyneval.files.opening.check_unpacked`."""
# Bytes that a cell takes in memory at least; a file may say in a few bytes that a billion cells are null.
_CELL = 16
# Bytes of a footer, and structs in structs: limits on what a hostile footer makes the reader do.
_MAX_FOOTER = 1 << 26
_MAX_DEPTH = 16


def read(path: Path, columns: Collection[str] | None, needs: Collection[str]) -> Iterator[Row | BadRow]:
    """Yield the rows; values of dictionary columns, and bytes that are UTF-8, are texts.

    For the arguments and the errors see `dyneval.files.tables.each_row`.
    """
    import polars as pl

    with reading(path):
        lazy = pl.scan_parquet(path, glob=False)
        present = lazy.collect_schema()
        require(path, present.names(), needs)
        names = [name for name in present.names() if columns is None or name in columns]
        check_unpacked(path, unpacked_size(path, names), FLOOR)
        frame = lazy.select(names).collect()
    coded = [name for name, kind in frame.schema.items() if isinstance(kind, (pl.Categorical, pl.Enum))]
    frame = frame.with_columns(pl.col(coded).cast(pl.String))
    # Again, now for the texts: a dictionary holds once what then stands in a million cells.
    check_unpacked(path, _text_size(frame), FLOOR)
    binary = [name for name, kind in frame.schema.items() if kind == pl.Binary]
    for part in frame.iter_slices(_SLICE):
        for row in part.iter_rows(named=True):
            yield row | {name: _text(row[name]) for name in binary}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what polars raises in the block for a file that it cannot read into a DataFileError that names `path`."""
    import polars as pl

    refuse_pointer(path)
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataFileError(f"{path}: cannot be read as Parquet ({reason})") from error


def text_column(path: Path, name: str, kind: pl.DataType) -> pl.Expr:
    """An expression for the column `name` as text.

    Texts, dictionaries of texts and bytes that are UTF-8 are taken; other bytes become null.

    Args:
        path: of the table, for the message.
        name: of the column.
        kind: its type, as the schema of the file has it.

    Raises:
        DataFileError: the column holds something else. polars would make texts of structures, lists and numbers, too.
    """
    import polars as pl

    column = pl.col(name)
    if kind == pl.Binary:
        return column.map_batches(
            lambda cells: pl.Series([t if isinstance(t := _text(v), str) else None for v in cells], dtype=pl.String),
            return_dtype=pl.String,
        )
    if isinstance(kind, (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        return column.cast(pl.String)
    raise DataFileError(f"{path}: the column {name!r} holds {kind}, expected text")


def unpacked_size(path: Path, columns: Collection[str]) -> int:
    """Bytes of these columns when unpacked, by the file's footer. Raises DataFileError where the footer is broken."""
    try:
        with path.open("rb") as file:
            # A file ends with the footer, its length in four bytes, and the mark "PAR1".
            file.seek(-8, 2)
            length = int.from_bytes(file.read(4), "little")
            if length > _MAX_FOOTER:
                raise ValueError(f"a footer of {length} bytes")
            file.seek(-8 - length, 2)
            footer = _ThriftReader(file.read(length)).struct()
        # Field numbers of parquet.thrift: FileMetaData has num_rows (3) and row_groups (4), RowGroup its columns (1),
        # ColumnChunk its meta_data (3), and that has path_in_schema (3) and total_uncompressed_size (6).
        chunks = [chunk[3] for group in footer.get(4, []) for chunk in group[1]]
        size = sum(max(0, chunk[6]) for chunk in chunks if chunk[3][0].decode() in columns)
        return max(size, _CELL * len(columns) * footer[3])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataFileError(f"{path}: cannot be read as Parquet (its footer is broken: {error})") from error


@dataclass(slots=True)
class _ThriftReader:
    """Reads Thrift's compact protocol, as far as Parquet's footer uses it; IndexError past the end."""

    data: bytes
    at: int = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Read a struct: the values of its fields by the numbers of the fields."""
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            # The upper half is the distance from the field before, the lower half the kind; true and false are kinds.
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):  # truth values in lists, and bytes
            return self._byte()
        if kind in (4, 5, 6):  # whole numbers of 16, 32 and 64 bits
            return self._signed()
        if kind in (7, 8):  # a float, bytes
            size = 8 if kind == 7 else self._unsigned()
            self.at += size
            if self.at > len(self.data):
                raise IndexError("cut off")
            return self.data[self.at - size : self.at]
        if kind in (9, 10):  # a list, a set
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError(f"a value of kind {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _unsigned(self) -> int:
        value, shift = 0, 0  # seven bits a byte, the lowest first; the eighth says that more follow
        while (byte := self._byte()) & 0x80:
            value, shift = value | (byte & 0x7F) << shift, shift + 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)  # 0, -1, 1, -2, ... are written as 0, 1, 2, 3, ...


def _text_size(frame: pl.DataFrame) -> int:
    """Bytes of all texts in the columns, also of those in lists."""
    import polars as pl

    size = 0
    for column in frame:
        while isinstance(column.dtype, (pl.List, pl.Array)):
            column = column.explode()
        if column.dtype == pl.String:
            size += int(column.str.len_bytes().sum())
        elif column.dtype == pl.Binary:
            size += int(column.bin.size().sum())
    return size


def _text(value: bytes | None) -> str | bytes | None:
    """Bytes as text if they are UTF-8. Others, such as pictures, stay bytes, and no reader takes them for a text."""
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return value
