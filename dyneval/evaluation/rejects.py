"""Rows of ratings and scores that cannot be used: they are left out, counted and reported; the others are used.

A published file with one rating off its scale is no reason to refuse the other ten thousand. A file of which more than
half of the rows cannot be used is refused: most likely it is not the file that it was taken for.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from dyneval.files.store import write_rejects
from dyneval.records import Reject

Content = TypeVar("Content")
FILE = "agreement.rejects.jsonl"
# Rows that a note names; all of them are in `FILE`.
_SHOWN = 3


class UnusableRow(NamedTuple):
    """A row that does not count.

    Attributes:
        file: name of its file.
        key: the id or image that it names; "" where it names none.
        row: its number in the file, from 1.
        reason: why it does not count.
    """

    file: str
    key: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.key + ', ' if self.key else ''}row {self.row}: {self.reason}"


class RowFilter(Generic[Content]):
    """Takes the rows of a file one by one and keeps those that can be used, one a key.

    Rows of one key that say the same count once. Where they differ none counts: keeping the first would make the result
    depend on the order of the rows.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.rejects: list[UnusableRow] = []
        self.repeated = 0
        """Rows that repeat an earlier one."""
        self._rows: dict[Hashable, list[tuple[int, str, Content]]] = {}
        self._total = 0

    def add(self, key: Hashable, row: int, name: str, content: Content, rows: int = 1) -> None:
        """Take a row that can be used.

        Args:
            key: rows with the same one are about the same image.
            row: its number in the file, from 1.
            name: what it is called in a reject.
            content: what it says.
            rows: how many rows of the file it was made of.
        """
        self._total += rows
        self._rows.setdefault(key, []).append((row, name, content))

    def reject(self, name: str, row: int, reason: str) -> None:
        """Count a row that cannot be used."""
        self._total += 1
        self.rejects.append(UnusableRow(self.file, name, row, reason))

    def finish(self) -> dict[Hashable, Content]:
        """The rows that count, by key, in the order of the file."""
        kept = {}
        for key, rows in self._rows.items():
            # By `repr`: NaN differs from itself, and two rows without a rating say the same.
            if len(rows) > 1 and len({repr(content) for _, _, content in rows}) > 1:
                reason = f"occurs {len(rows)} times with different contents; which is right is unknown, so none counts"
                self.rejects += [UnusableRow(self.file, name, row, reason) for row, name, _ in rows]
            else:
                self.repeated += len(rows) - 1
                kept[key] = rows[0][2]
        self.rejects.sort(key=lambda reject: reject.row)
        return kept

    @property
    def refusal(self) -> str | None:
        """Why the file cannot be used as a whole, after `finish`: most of its rows cannot."""
        if 2 * len(self.rejects) <= self._total:
            return None
        return f"{len(self.rejects)} of {self._total} rows cannot be used: {_some(self.rejects)}"


def notes(rejects: Sequence[UnusableRow], repeated: int) -> list[str]:
    """Sentences for the report: for each file how many rows were left out, and the first few of them."""
    sentences = []
    for file, group in groupby(rejects, key=lambda reject: reject.file):
        of_file = list(group)
        sentences.append(f"{file}: {len(of_file)} rows left out: {_some(of_file)}")
    return sentences + ([f"{repeated} rows repeat one before them and count once"] if repeated else [])


def write(folder: Path, rejects: Sequence[UnusableRow]) -> list[Path]:
    """Write all of them as `FILE` below `folder`; returns the file. Without any, that of an earlier run is removed."""
    path = folder / FILE
    rows = [
        Reject(
            key=one.key or f"row {one.row}", kind="row", reason=one.reason, detail={"row": one.row, "file": one.file}
        )
        for one in rejects
    ]
    write_rejects(path, rows, "item_id")
    return [path] if rejects else []


def _some(rejects: Sequence[UnusableRow]) -> str:
    more = len(rejects) - _SHOWN
    return "; ".join(map(str, rejects[:_SHOWN])) + (f"; and {more} more" if more > 0 else "")
