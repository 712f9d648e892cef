"""Decides which checkpoints count. A folder is complete once its marker is there; the final model appears at once.

A run may be killed at any moment, also while it writes or deletes. Whatever is found afterwards must be a whole
checkpoint or count as none: transformers resumes from a half-written one without a word, with a new optimizer.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dyneval.errors import DataFileError
from dyneval.files.atomic import read_json, write_json
from qwenvl.errors import TrainingInputError

logger = logging.getLogger(__name__)

MARKER = "complete.json"
PLAIN, NONE = "one file", "nothing"
"""Layouts of an optimizer's state, beside those of DeepSpeed."""
_FINAL = ".final"
_UNWRITTEN = ("os error", "inline_container.cc")
"""Words in the errors of safetensors, tokenizers and torch when a disk is full; these are not OSErrors."""


def steps_of(output_dir: Path) -> dict[int, Path]:
    """Return the checkpoint folders by step, complete or not."""
    found = {}
    for folder in output_dir.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if match and folder.is_dir():
            found[int(match[1])] = folder
    return found


def newest_complete(output_dir: Path) -> Path | None:
    """Return the complete checkpoint with the most steps, to resume from; None where there is none."""
    complete = {step: folder for step, folder in steps_of(output_dir).items() if _fault(folder) is None}
    return complete[max(complete)] if complete else None


def remove_incomplete(output_dir: Path) -> None:
    """Delete checkpoints whose writing was interrupted, and a final model that was not yet in place."""
    for folder in steps_of(output_dir).values():
        if fault := _fault(folder):
            logger.warning("removing %s: %s", folder, fault)
            shutil.rmtree(folder)
    shutil.rmtree(output_dir / _FINAL, ignore_errors=True)


def mark_complete(folder: Path, step: int, optimizer: str = PLAIN) -> None:
    """Mark a checkpoint as whole. Call it when every rank has written its part.

    Args:
        folder: of the checkpoint.
        step: after which it was written.
        optimizer: how the optimizer's state is laid out, which must be the same where a run goes on from it.
    """
    # The marker holds the size of every file, and comes after all of them are on the disk: after a power failure a file
    # may be shorter than it was written.
    (folder / MARKER).unlink(missing_ok=True)
    sizes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            sizes[path.relative_to(folder).as_posix()] = os.fstat(file.fileno()).st_size
    write_json(folder / MARKER, {"step": step, "optimizer": optimizer, "files": sizes})


def check_resumable(folder: Path, optimizer: str) -> None:
    """Check that a run can go on from a checkpoint as if it had not stopped.

    Args:
        folder: of the checkpoint.
        optimizer: the layout that this run would write.

    Raises:
        TrainingInputError: it is not whole, or its optimizer is missing or has another layout: transformers would begin
            with a new optimizer, and say nothing.
    """
    if not folder.is_dir():
        raise TrainingInputError(f"{folder}: no such checkpoint")
    if fault := _fault(folder):
        raise TrainingInputError(f"{folder}: no whole checkpoint: {fault}")
    found = read_json(folder / MARKER).get("optimizer", optimizer)
    if found == NONE:
        raise TrainingInputError(
            f"{folder}: was written with --save_only_model True, so it holds no optimizer and a run cannot go on from "
            f"it; start anew in another output folder, or train its weights on with --model_name_or_path {folder}"
        )
    if found != optimizer:
        raise TrainingInputError(
            f"{folder}: its optimizer is stored as {found}, this run would read {optimizer}; take the number of "
            "processes and the --deepspeed that it was written with"
        )


def forget_after(output_dir: Path, step: int) -> None:
    """Delete the checkpoints of later steps: a run that goes on from `step` would otherwise resume from one of them."""
    for later, folder in steps_of(output_dir).items():
        if later > step:
            logger.warning("removing %s: the run goes on from step %d", folder, step)
            (folder / MARKER).unlink(missing_ok=True)
            shutil.rmtree(folder)


def _fault(folder: Path) -> str | None:
    """Return why a checkpoint does not count, or None."""
    if not (folder / MARKER).is_file():
        return "its writing was interrupted"
    try:
        files = dict(read_json(folder / MARKER)["files"])
    except (DataFileError, KeyError, TypeError, ValueError):
        return f"its {MARKER} cannot be read"
    for name, size in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
    return None


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Write to `folder` in the block.

    Raises:
        TrainingInputError: it cannot be written, most often since the disk is full, by whatever library noticed it; the
            message has the free space. Any other exception of the block comes through.
    """
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if not isinstance(error, OSError) and not any(words in reason for words in _UNWRITTEN):
            raise
        free = shutil.disk_usage(folder.parent).free
        if free < 1 << 20:
            reason = os.strerror(errno.ENOSPC)  # torch only says "unexpected pos"
        raise TrainingInputError(
            f"{folder}: cannot be written ({reason}; {free / 1e9:.1f} GB are free there); make room and start the same "
            "command again: it goes on from the last checkpoint"
        ) from error


def keep_newest(output_dir: Path, limit: int | None, best: int | None = None) -> None:
    """Delete complete checkpoints that are no longer wanted; incomplete ones are left to `remove_incomplete`.

    Args:
        output_dir: of the run.
        limit: how many of the newest are kept; None keeps all.
        best: step of one that is kept however old it is.
    """
    complete = sorted(step for step, folder in steps_of(output_dir).items() if (folder / MARKER).is_file())
    for step in complete[: -limit if limit else 0]:
        if step == best:
            continue
        folder = output_dir / f"checkpoint-{step}"
        # The marker first: a deletion that is cut short must not leave what looks like a checkpoint.
        (folder / MARKER).unlink()
        shutil.rmtree(folder)


def save_final(output_dir: Path, save: Callable[[str], None], is_main: bool) -> None:
    """Write the trained model into `output_dir`.

    Args:
        output_dir: folder of the run.
        save: writes the model to the folder that it is given; called by every rank.
        is_main: True on the rank that moves the files.
    """
    folder = output_dir / _FINAL
    with saving(folder):
        save(str(folder))
    if not is_main:
        return
    # Moved, with config.json last: without it no program takes the folder for a model. Written in place, a killed run
    # would leave a model of old and new weights.
    (output_dir / "config.json").unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(output_dir / path.name)
    folder.rmdir()
