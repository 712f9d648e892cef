"""Reports why a run ended, to people and to the launcher.

torchrun ends with its own long account of a failed process. `scripts/sft_common.sh` prints the file written here last,
so that the reason is the last line on the terminal.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from dyneval.files.atomic import atomic_write

FAILURE = "failure.txt"


def report_failure(output_dir: Path | None, reason: str) -> None:
    """Write the reason to standard error and, where the output folder is known, to `failure.txt` in it."""
    sys.stderr.write(f"train_qwen: {reason}\n")
    if output_dir is not None:
        # A full disk may be the reason itself: the message has been printed, and must not be hidden by another error.
        with suppress(OSError), atomic_write(output_dir / FAILURE) as file:
            file.write(reason + "\n")
