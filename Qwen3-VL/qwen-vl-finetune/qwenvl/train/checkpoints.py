"""Which checkpoints count: a folder is complete once its marker is there, and the final model appears at once."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from dyneval.storage import write_json

logger = logging.getLogger(__name__)

MARKER = "complete.json"
_FINAL = ".final"


def steps_of(output_dir: Path) -> dict[int, Path]:
    """Checkpoint folders by step, complete or not."""
    found = {}
    for folder in output_dir.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
        if match and folder.is_dir():
            found[int(match[1])] = folder
    return found


def newest_complete(output_dir: Path) -> Path | None:
    """The complete checkpoint with the most steps, to resume from."""
    complete = {step: folder for step, folder in steps_of(output_dir).items() if (folder / MARKER).is_file()}
    return complete[max(complete)] if complete else None


def remove_incomplete(output_dir: Path) -> None:
    """Delete checkpoints whose writing was interrupted, and a final model that was not yet in place."""
    for folder in steps_of(output_dir).values():
        if not (folder / MARKER).is_file():
            logger.warning("removing %s: its writing was interrupted", folder)
            shutil.rmtree(folder)
    shutil.rmtree(output_dir / _FINAL, ignore_errors=True)


def mark_complete(folder: Path, step: int) -> None:
    """Declare a checkpoint whole; to be called when every rank has written its part."""
    write_json(folder / MARKER, {"step": step})


def keep_newest(output_dir: Path, limit: int | None) -> None:
    """Delete all complete checkpoints but the `limit` newest; None keeps all."""
    complete = sorted(step for step, folder in steps_of(output_dir).items() if (folder / MARKER).is_file())
    for step in complete[: -limit if limit else 0]:
        folder = output_dir / f"checkpoint-{step}"
        (folder / MARKER).unlink()  # first: a deletion cut short must not look like a checkpoint
        shutil.rmtree(folder)


def save_final(output_dir: Path, save: Callable[[str], None], is_main: bool) -> None:
    """Put the trained model into `output_dir`, `config.json` last: without it there is no model there.

    Args:
        output_dir: folder of the run.
        save: writes the model to the folder that it is given; called by every rank.
        is_main: True on the rank that moves the files.
    """
    folder = output_dir / _FINAL
    save(str(folder))
    if not is_main:
        return
    (output_dir / "config.json").unlink(missing_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(output_dir / path.name)
    folder.rmdir()
