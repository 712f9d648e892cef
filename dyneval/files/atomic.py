"""Write files that exist whole or not at all, and let only one process at a time write to a folder.

    from pathlib import Path

    from dyneval.files.atomic import read_json, write_json

    write_json(Path("settings.json"), {"seed": 1})
    print(read_json(Path("settings.json")))

A run may be killed at any moment. A file written in place would then be half of one, which the next step reads as if it
were whole; two runs in one folder would mix their rows.
"""

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

from dyneval.errors import DataFileError, SettingError, unreadable
from dyneval.files.opening import refuse_pointer
from dyneval.records import RunSummary

RUN_CONFIG: ContextVar[Mapping[str, Any] | None] = ContextVar("RUN_CONFIG", default=None)
"""Verb and flags of the command line that is running, for its summary; None where Python code calls a step."""
# Seconds to wait for a folder: forked workers of a killed run hold its lock until they notice that it is gone.
_PATIENCE = 3.0


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; it gets that name when the block ends without an exception.

    Args:
        path: the file; its folder is made where it is missing, and a file of that name is replaced.
        mode: "w" for text in UTF-8, "wb" for bytes.

    Of two writers at the same time, the second waits for the first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for all writers, and locked: the next one overwrites what a killed writer has left, so nothing piles up.
    temporary = path.with_name(f".{path.name}.tmp")
    with _locked(temporary) as handle:
        try:
            with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8", closefd=False) as file:
                yield file
                file.flush()
                # Before the rename: after a power cut the new name could else stand on a file without its content.
                os.fsync(handle)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def refuse_overwrite(inputs: Iterable[Path], outputs: Iterable[Path], flag: str = "--output") -> None:
    """Raise SettingError when a file that is read would also be written, under whatever name or link.

    Args:
        inputs: files, or folders whose whole content is read; what does not exist is ignored.
        outputs: files that will be written, replaced or removed.
        flag: what names the outputs on the command line, for the message.
    """
    read = [path for path in inputs if path.exists()]
    for output in outputs:
        if output.exists():
            for path in read:
                if output.samefile(path) or (path.is_dir() and path.resolve() in output.resolve().parents):
                    raise SettingError(f"{output}: is an input and would be overwritten; name another {flag}")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Be the only process that writes to a folder, whose files belong together; the folder is made if it is missing.

    Raises:
        DataFileError: another process writes to it, and still does after 3 s.
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
    """Open an empty file of this name under a lock; yields its descriptor.

    Raises BlockingIOError when another process still holds the lock after `patience` seconds (None: wait without end).
    """
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        # O_NOFOLLOW: a link of this name, which somebody else may have put there, would let us empty another file.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if deadline is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # While we waited, the file may have got its final name or been removed: then we have locked another file
            # than the one that now has this name, and begin again.
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                break
        except BlockingIOError:
            if deadline is None or time.monotonic() > deadline:
                os.close(handle)
                raise
            time.sleep(0.05)
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    try:
        os.ftruncate(handle, 0)
        yield handle
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone keeps the lock while a forked process has the file open
        os.close(handle)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON to `path`, all or nothing.

    Args:
        path: the file; its folder is made where it is missing.
        value: what `json` can write; letters of any script stand as they are.
        indent: blanks of a level; None writes one line.

    Raises:
        TypeError, ValueError: `value` holds what JSON cannot, such as NaN or infinity; nothing is written.
    """
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=indent, allow_nan=False)
        file.write("\n")


def write_summary(path: Path, run: RunSummary, detail: Mapping[str, Any]) -> dict[str, Any]:
    """Write the summary file of a run, and return its content.

    Args:
        path: the file.
        run: what every step reports, written under the key "run". Where the step was started from the command line, the
            verb and the value of each flag are added to it as `config`.
        detail: what only this step reports, by its keys.
    """
    # Through JSON, so that it is returned as a reader would find it: msgspec.to_builtins leaves tuples.
    block = msgspec.json.decode(msgspec.json.encode(run))
    if (config := RUN_CONFIG.get()) is not None:
        block["config"] = dict(config)
    summary = {"run": block, **detail}
    write_json(path, summary)
    return summary


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataFileError: the file is missing, is not JSON, or holds half a character (a lone surrogate).
    """
    refuse_pointer(path)
    try:
        text = path.read_text("utf-8-sig")
        value = json.loads(text)
        # Half a character would end the run later, where its text is hashed or written. Only an escape can write one,
        # so most files are not encoded again.
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: is not JSON ({error})") from error
