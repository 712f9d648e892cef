"""Describe what lies at a path, in a few words, for an error that says which layout was expected there.

"not the layout of TIFA" helps little without "found: a folder with images/, scores.json". Nothing here may raise: it
runs while another error is reported.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError
from dyneval.files.atomic import read_json
from dyneval.files.row import BadRow
from dyneval.files.tables import KINDS, each_row

# Names that are listed, of files, columns and keys.
_SHOWN = 10
# Entries of a folder that are looked at: a folder of images may have millions.
_LOOKED_AT = 10_000
# Characters that are shown of a name.
_LONGEST = 40


def describe_path(path: Path) -> str:
    """Describe a file or folder: what a folder holds, the columns of a table, the keys of a JSON object."""
    try:
        if path.is_dir():
            entries = sorted(entry for entry in islice(path.iterdir(), _LOOKED_AT) if not entry.name.startswith("."))
            names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
            return f"a folder with {_some(names)}" if names else "an empty folder"
        return _file(path) if path.exists() else "nothing: there is no such file or folder"
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"


def _file(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in KINDS:
        return f"a file {path.suffix or 'without an ending'} of {path.stat().st_size:,} bytes"
    try:
        value = read_json(path) if kind == ".json" else None
    except DataFileError as error:
        return f"no JSON ({error})"
    if isinstance(value, dict):
        inside = next(iter(value.values()), None)
        of = f", the first with the keys {_some(inside)}" if isinstance(inside, dict) else ""
        return f"a JSON object with the keys {_some(value)}{of}"
    if isinstance(value, list):
        if not value:
            return "a JSON list of 0"
        first = value[0]
        of = f" with {_some(first)}" if isinstance(first, dict) else f", the first {type(first).__name__}"
        return f"a JSON list of {len(value):,}{of}"
    try:
        row = next(iter(each_row(path)), None)
    except DataFileError as error:
        return str(error)
    if row is None:
        return f"a {kind} table without rows"
    return f"a {kind} table " + ("whose first row cannot be read" if isinstance(row, BadRow) else f"with {_some(row)}")


def _some(names: Collection[Any]) -> str:
    texts = [str(name)[:_LONGEST] + ("..." if len(str(name)) > _LONGEST else "") for name in islice(names, _SHOWN)]
    more = len(names) - len(texts)
    return (", ".join(texts) or "none") + (f" and {more:,} more" if more else "")
