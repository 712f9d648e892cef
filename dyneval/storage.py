"""Files that survive a kill: append-only JSONL with resume, a rejects file beside it, and atomic replacement."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from filelock import FileLock, Timeout

Row = dict[str, Any]


class DataFileError(ValueError):
    """A data file cannot be read; the message names the file and, where it can, the line."""


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON under `path`, all or nothing. Raises ValueError on NaN or infinity."""
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=indent, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataFileError naming the file when it is missing or is not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataFileError(f"{path}: is not JSON ({error})") from error


def read_jsonl(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSONL file, one a line; blank lines are passed over.

    A last line without its newline is a record that was being written: it is left out, as `JsonlStore` would.

    Raises:
        DataFileError: the file is missing, or a line is not a JSON object (file and line number named).
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            if line.strip():
                yield _parse(path, number, line)


def _parse(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataFileError(f"{path}:{number}: is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise DataFileError(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")
    return row


def read_rows(path: Path) -> list[Row]:
    """Read a JSON array of objects or a JSONL file, told apart by its first character. Raises DataFileError."""
    try:
        with path.open("rb") as file:
            first = file.read(64).lstrip()[:1]
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
    if first != b"[":
        return list(read_jsonl(path))
    rows = read_json(path)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataFileError(f"{path}: entry {number}: expected a JSON object, found {type(row).__name__}")
    return rows


class JsonlStore:
    """An append-only JSONL file with one writer: `done` holds the keys already there, so a rerun skips them.

    Opening takes a lock (a second writer gets an error), cuts a torn last line and reads the keys. Rows that cannot be
    used go to `<stem>.rejects.jsonl` through `reject`; that file starts anew with each run, since rejects are retried.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        *,
        on_row: Callable[[Row], None] | None = None,
        wait: float = 0,
        keep_rejects: bool = False,
    ) -> None:
        """Describe the file; it is opened on entering.

        Args:
            path: the file; made when it is missing.
            key: the field that identifies a row.
            on_row: called with each row that is already there, for those who need more of it than its key.
            wait: seconds to wait for another writer to finish.
            keep_rejects: leave the rejects of the last run, for a writer that only adds finished rows.
        """
        self.path = path
        self.on_row = on_row
        self.wait = wait
        self.keep_rejects = keep_rejects
        self.rejects_path = path.with_name(f"{path.stem}.rejects.jsonl")
        self.key = key
        self.done: set[str] = set()
        self.written = 0
        self.rejected = 0

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self._lock.acquire(timeout=self.wait)
        except Timeout:
            raise DataFileError(f"{self.path}: another process is writing to this file") from None
        try:
            _cut_torn_line(self.path)
            if self.path.exists():
                self.done = {self._read(row) for row in read_jsonl(self.path)}
            if not self.keep_rejects:
                self.rejects_path.unlink(missing_ok=True)
            self._file = self.path.open("ab")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()  # the lock file stays: removing it would race with a writer that just opened it

    def _read(self, row: Row) -> str:
        if self.on_row:
            self.on_row(row)
        return str(row.get(self.key))

    def append(self, row: Row) -> None:
        """Add one finished row: one write and a flush, so a kill tears at most the last line."""
        self._file.write(_line(row))
        self._file.flush()
        self.done.add(str(row[self.key]))
        self.written += 1

    def reject(self, key: str, reason: str, **details: Any) -> None:
        """Record that the row `key` could not be made, and why."""
        with self.rejects_path.open("ab") as file:
            file.write(_line({self.key: key, "reason": reason, **details}))
        self.rejected += 1


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


def _cut_torn_line(path: Path, block: int = 1 << 16) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
