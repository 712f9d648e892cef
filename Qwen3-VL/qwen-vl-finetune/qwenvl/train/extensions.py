"""Compiles and loads DeepSpeed's operators so that a killed run never stops the next one.

torch compiles an extension under a lock file that only its maker removes. A run that is killed while it compiles, or
merely while it loads, leaves the file behind, and every later run waits for it without end. Here the operators are
loaded under a lock that the operating system frees with the process, in a folder that nobody else builds in; a torch
lock file found there is a leftover.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import sysconfig
from pathlib import Path

from filelock import FileLock

logger = logging.getLogger(__name__)

SHARED_MEMORY = "ShareMemCommBuilder"
CPU_ADAM = "CPUAdamBuilder"


def load_operators(*builders: str) -> None:
    """Compile (once) and load DeepSpeed operators; later loads of them in this process find them loaded.

    Each Python environment builds in a folder of its own below `TORCH_EXTENSIONS_DIR` (torch's own default where that
    is not set): paths of headers are compiled in.

    Args:
        builders: names of operator builders; one that this machine cannot compile is left to DeepSpeed's fallback.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    # First the ninja of this environment: the system's, of another version, cannot read the log that this one left, and
    # would compile everything anew.
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    # Imported only now: DeepSpeed and torch read both variables.
    from deepspeed.accelerator import get_accelerator

    with FileLock(folder / "dyneval.lock"):
        for leftover in folder.glob("*/lock"):
            logger.warning("%s: left by a run that was killed while it compiled; removed", leftover)
            leftover.unlink()
        for name in builders:
            builder = get_accelerator().create_op_builder(name)
            if builder is not None and builder.is_compatible(False):
                builder.load(verbose=False)


def _folder() -> Path:
    # Not one folder for all environments: each would compile anew what another one has left.
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    environment = hashlib.sha256(f"{sys.prefix} {sys.version}".encode()).hexdigest()[:12]
    return Path(root) / f"dyneval-{environment}"
