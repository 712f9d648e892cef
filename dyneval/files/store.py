"""JSONL files that survive a kill: one writer appends rows, a rerun skips those that are there, rejects lie beside it.

    from pathlib import Path

    from dyneval.files.store import JsonlStore
    from dyneval.records import RivalScore

    with JsonlStore(Path("scores.jsonl"), RivalScore) as store:
        print(len(store.done), "pairs are done")

Every step writes its rows through `JsonlStore`. A kill tears at most the last line, which the next run cuts off.
Without the lock two runs would write into each other's lines, and without `done` all work would be done again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from filelock import FileLock, Timeout

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write
from dyneval.files.jsonl import places, read_jsonl, refuse_foreign, scan, to_line, whole_lines, write_whole
from dyneval.records import Reject
from dyneval.structs import Record

_LENGTH_BITS = 32


R = TypeVar("R", bound=Record)


class JsonlIndex(Generic[R]):
    """Records of a JSONL file by key: keys and places are kept in memory, a row is read when it is asked for.

    Of several rows with the same key the last counts. A torn last line, and rows that are appended later, are left out.
    Processes that are forked off can share an index.
    """

    def __init__(self, path: Path, record: type[R]) -> None:
        """Read the keys of `path`, 250,000 rows in a second or two. Raises DataFileError."""
        self.path = path
        self.record = record
        # Place and length in one number: a tuple would take 100 bytes more for each row.
        self._places = {name: place << _LENGTH_BITS | length for place, length, name in places(path, record.KEY)}
        self._file = path.open("rb")

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: str, where: str | None = None) -> R | None:
        """Return the record of `key`, or None. Raises SchemaError, which begins with `where` or its place."""
        packed = self._places.get(key)
        if packed is None:
            return None
        place = packed >> _LENGTH_BITS
        # pread moves no file position, which forked processes share.
        line = os.pread(self._file.fileno(), packed & (1 << _LENGTH_BITS) - 1, place)
        return self.record.decode(line, where or f"{self.path}: the row at byte {place}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonlStore(Generic[R]):
    """A JSONL file of records that one writer appends to; `done` holds the keys that are there, which a rerun skips.

    Opening takes a lock (a second writer gets an error), cuts a torn last line and reads the keys. Rows that could not
    be made go to `<stem>.rejects.jsonl` through `reject`; that file begins anew with each run, which retries them.
    """

    def __init__(
        self,
        path: Path,
        record: type[R],
        *,
        wait: float = 0,
        keep_rejects: bool = False,
        version: str | None = None,
        latest_only: bool = False,
    ) -> None:
        """Describe the file; `with` opens it.

        Args:
            path: the file; it is made where it is missing.
            record: the type of its rows; opening is fast where the key is their first field.
            wait: seconds to wait for another writer to finish.
            keep_rejects: keep the rejects of the last run, for a writer that only adds finished rows.
            version: rows count as done only when this is the prompt_version of their provenance; None: all count.
            latest_only: keep one row a key. On leaving without an error, rows that were retired, or replaced by a later
                row of their key, move to `<name>.superseded`.
        """
        self.path = path
        self.rejects_path = rejects_beside(path)
        self.record = record
        self.key = record.KEY
        self.wait = wait
        self.keep_rejects = keep_rejects
        self.version = version
        self.latest_only = latest_only
        # Not called *.jsonl, so that programs that read all such files of a folder leave it out.
        self.superseded_path = path.with_name(f"{path.name}.superseded")
        self.done: set[str] = set()
        self.written = 0
        self.rejected = 0
        self._places: dict[str, int] = {}
        self._replaced = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self._lock.acquire(timeout=self.wait)
        except Timeout:
            raise DataFileError(f"{self.path}: another process is writing to this file") from None
        try:
            # Reading the keys raises where the file is of another kind, so it comes before anything is cut.
            for place, key, version in scan(self.path, self.key) if self.path.exists() else ():
                self._replaced += key in self._places
                self._places[key] = place
                if self.version in (None, version):
                    self.done.add(key)
                else:
                    self.done.discard(key)
            # A torn last line is cut off: it was being written when its writer was killed.
            if self.path.exists() and (end := refuse_foreign(self.path, self.key)) < self.path.stat().st_size:
                os.truncate(self.path, end)
            if not self.keep_rejects:
                self.rejects_path.unlink(missing_ok=True)
            # Unbuffered: what a failed write leaves behind is cut off. A buffer would write it once more on closing.
            self._file = self.path.open("ab", buffering=0)
            self._reader = self.path.open("rb")
        except BaseException:
            self._lock.release()
            raise
        self._end = self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._reader.close()
        try:
            if self.latest_only and self._replaced and kind is None:
                current, place = set(self._places.values()), 0
                # Rows that no longer count are appended to the other file before this one is replaced: a kill between
                # the two leaves them in both files, not in neither.
                with atomic_write(self.path, "wb") as file, self.superseded_path.open("ab") as superseded:
                    for line in whole_lines(self.path):
                        (file if place in current or not line.strip() else superseded).write(line)
                        place += len(line)
                    superseded.flush()
                    os.fsync(superseded.fileno())
        finally:
            self._lock.release()  # the lock file stays: removing it would race with a writer that just opened it

    @property
    def keys(self) -> list[str]:
        """All keys in the file, whether they count as done or not, in the order of their last rows."""
        return sorted(self._places, key=self._places.__getitem__)

    def __iter__(self) -> Iterator[R]:
        """Yield the last record of each key."""
        for key in self.keys:
            if (record := self.get(key)) is not None:
                yield record

    def append(self, record: R) -> None:
        """Add one finished record in one write, so that a kill tears at most the last line.

        Raises:
            SchemaError: a field does not hold what its type says; nothing is written.
            OSError: the record cannot be written, as on a full disk; the file then ends as it did before.
        """
        self.append_line(str(getattr(record, self.key)), record.encode())

    def append_line(self, key: str, line: bytes) -> None:
        """Add a row as it stands in another file of the same kind, unchecked. Raises OSError as `append`."""
        write_whole(self._file, line + b"\n", self._end)
        self._replaced += key in self._places
        self._places[key] = self._end
        self._end += len(line) + 1
        self.done.add(key)
        self.written += 1

    def get(self, key: str) -> R | None:
        """Return the last record of `key`, read from the file, or None. Raises SchemaError."""
        place = self._places.get(key)
        line = self.line(key)
        return None if line is None else self.record.decode(line, f"{self.path}: the row at byte {place}")

    def begins_with(self, key: str, head: bytes) -> bool:
        """True where the last row of `key` begins with these bytes."""
        place = self._places.get(key)
        return place is not None and os.pread(self._reader.fileno(), len(head), place) == head

    def line(self, key: str) -> bytes | None:
        """Return the last row of `key` as it stands in the file, without its end, or None."""
        place = self._places.get(key)
        if place is None:
            return None
        self._reader.seek(place)
        return self._reader.readline().rstrip(b"\n")

    def retire(self, key: str) -> None:
        """Mark the row of `key` as outdated, whether or not another one will follow; `latest_only` then moves it."""
        self._replaced += self._places.pop(key, None) is not None
        self.done.discard(key)

    def reject(self, reject: Reject) -> None:
        """Record that a row could not be made, and why."""
        append_reject(self.rejects_path, reject, self.key)
        self.rejected += 1


def rejects_beside(path: Path) -> Path:
    """The file of the rejects beside `path`: a.rejects.jsonl for a.jsonl."""
    return path.with_name(f"{path.stem}.rejects.jsonl")


def append_reject(path: Path, reject: Reject, key: str) -> None:
    """Add a reject to a file of rejects, whole or not at all.

    Args:
        path: the file; it and its folder are made where they are missing.
        reject: what could not be made, and why.
        key: what keys are called in the file, such as pair_id.

    Raises:
        OSError: it cannot be written; the file then ends as it did before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        write_whole(file, to_line(reject.row(key)), file.seek(0, os.SEEK_END))


def read_rejects(path: Path, key: str) -> dict[str, Reject]:
    """The last reject of each key in a file; none where there is no file. Raises DataFileError."""
    rows = read_jsonl(path) if path.exists() else ()
    return {reject.key: reject for row in rows for reject in [Reject.of_row(row, key)]}


def write_rejects(path: Path, rejects: Iterable[Reject], key: str) -> None:
    """Replace the rejects in a file, all or nothing; without any, the file is removed.

    Args:
        path: the file.
        rejects: all that it is to hold; they may be read from it lazily, since it is written after the last one.
        key: what keys are called in the file, such as pair_id.
    """
    lines = [to_line(reject.row(key)) for reject in rejects]
    if not lines:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path, "wb") as file:
        file.writelines(lines)
