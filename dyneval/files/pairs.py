"""Tables of pairs as they come from outside: a table of any kind, or a Hugging Face ImageFolder.

A row names an image (`file_name`, relative to the table's folder), the `prompt` it was made from, perhaps a `pair_id`
and a `prompt_id`.
"""

from __future__ import annotations

from pathlib import Path

from dyneval.errors import DataFileError
from dyneval.files.tables import BadRow, each_row
from dyneval.structs import Row

COLUMNS = ("pair_id", "prompt_id", "prompt", "file_name")
_IMAGE_FOLDER = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def metadata_file(path: Path) -> Path:
    """The table itself: `path`, or of an ImageFolder the metadata file inside. Raises DataFileError where none is."""
    if not path.is_dir():
        return path
    found = [path / name for name in _IMAGE_FOLDER if (path / name).is_file()]
    if len(found) != 1:
        have = " and ".join(file.name for file in found) or "none"
        raise DataFileError(f"{path}: expected exactly one of {', '.join(_IMAGE_FOLDER)} in this folder, found {have}")
    return found[0]


def read_pairs(path: Path) -> list[Row | BadRow]:
    """Read the rows of a table of pairs, `COLUMNS` alone; what a row lacks it simply lacks.

    Raises:
        DataFileError: the file is missing, is of no known kind, has not the columns it needs, or has no row that can
            be read.
    """
    file = metadata_file(path)
    read = [
        row if isinstance(row, BadRow) else {name: value for name, value in row.items() if value is not None}
        for row in each_row(file, COLUMNS, needs=("file_name", "prompt"))
    ]
    if not read:
        raise DataFileError(f"{file}: holds no rows; expected file_name and prompt, perhaps pair_id, for each picture")
    bad = [row for row in read if isinstance(row, BadRow)]
    if len(bad) == len(read):
        raise DataFileError(f"{file}:{bad[0].line}: {bad[0].reason}")
    return read
