"""Why a run ended, for people and for the launcher."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from dyneval.files.atomic import atomic_write

FAILURE = "failure.txt"


def report_failure(output_dir: Path | None, reason: str) -> None:
    """Say why, and leave it for the launcher, whose last line would otherwise be torchrun's."""
    sys.stderr.write(f"train_qwen: {reason}\n")
    if output_dir is not None:
        with suppress(OSError), atomic_write(output_dir / FAILURE) as file:
            file.write(reason + "\n")
