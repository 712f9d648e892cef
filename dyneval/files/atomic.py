"""Files that are there whole or not at all, and folders with one writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import msgspec

from dyneval.errors import DataFileError, SettingError
from dyneval.files.opening import refuse_pointer
from dyneval.records import RunSummary

RUN_CONFIG: ContextVar[Mapping[str, Any] | None] = ContextVar("RUN_CONFIG", default=None)
"""Verb and flags of the command line that runs, which stand in its summary; None where Python calls a step."""
_PATIENCE = 3.0
"""Seconds to wait for a folder: forked workers of a killed run hold its lock until they notice."""


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an exception.

    It is always called the same and is locked: what a killed writer has left is overwritten by the next one, and of two
    writers at once the second waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with _locked(temporary) as handle:
        try:
            with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8", closefd=False) as file:
                yield file
                file.flush()
                os.fsync(handle)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def refuse_overwrite(inputs: Iterable[Path], outputs: Iterable[Path], flag: str = "--output") -> None:
    """Raise SettingError when a file that is read is also one that will be written, under whatever name or link.

    Args:
        inputs: files, or folders that are read with all that is in them; what does not exist is passed over.
        outputs: files that will be written, replaced or removed.
        flag: what names them on the command line.
    """
    read = [path for path in inputs if path.exists()]
    for output in outputs:
        if output.exists():
            for path in read:
                if output.samefile(path) or (path.is_dir() and path.resolve() in output.resolve().parents):
                    raise SettingError(f"{output}: is an input and would be overwritten; name another {flag}")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Be the only one who writes the files of a folder, which belong together.

    Raises DataFileError when another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(path, _PATIENCE))
        except BlockingIOError:
            message = f"{folder}: another process is writing to this folder; wait for it, or name another one"
            raise DataFileError(message) from None
        stack.callback(path.unlink)
        yield


@contextmanager
def _locked(path: Path, patience: float | None = None) -> Iterator[int]:
    """Open an empty file of this name under a lock. Raises BlockingIOError when it is not free within `patience` s."""
    handle = _open_locked(path, patience)
    try:
        yield handle
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone does not do it while a forked process has it open
        os.close(handle)


def _open_locked(path: Path, patience: float | None) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _flock(handle, patience)
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # while we waited it took its final name, or was removed


def _flock(handle: int, patience: float | None) -> None:
    if patience is None:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON under `path`, all or nothing. Raises ValueError on NaN or infinity."""
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=indent, allow_nan=False)
        file.write("\n")


def write_summary(path: Path, run: RunSummary, detail: Mapping[str, Any]) -> dict[str, Any]:
    """Write the summary file of a run: what all steps say of a run, and what this one says; returns what is in it.

    Of a run by command line, the `config` of its block `run` holds the verb and the value of each of its flags.
    """
    # As it will be read again: msgspec.to_builtins leaves tuples.
    said = msgspec.json.decode(msgspec.json.encode(run))
    if (config := RUN_CONFIG.get()) is not None:
        said["config"] = dict(config)
    summary = {"run": said, **detail}
    write_json(path, summary)
    return summary


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataFileError naming the file when it is missing, no JSON or has half a character."""
    refuse_pointer(path)
    try:
        text = path.read_text("utf-8-sig")
        value = json.loads(text)
        # Half a character, which only an escape can write, would end the run where its text is hashed or written.
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: is not JSON ({error})") from error
