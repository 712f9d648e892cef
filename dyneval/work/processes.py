"""Let processes end in order: workers end with their parent, and a run closes its files on SIGTERM as on Ctrl-C.

A worker that outlives its killed parent keeps its GPU and its locks, so that the next run cannot start. A run that
Slurm ends with SIGTERM would die at once, in the middle of a file.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import NoReturn

# Seconds between two looks at the parent.
_LOOK = 0.5


def end_with_parent(parent: int) -> None:
    """End this process when the process with the id `parent` is gone; for workers, and as the initializer of pools."""
    # Watched, since a worker would notice late or never that its parent was killed: late while it is at work, and never
    # if it was forked, because it then holds the other end of the pipe on which it waits itself.
    never = threading.Event()

    def watch() -> NoReturn:
        while os.getppid() == parent:
            never.wait(_LOOK)
        os._exit(1)  # from a thread, sys.exit would end only the thread

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def interrupt_on_sigterm() -> None:
    """Make SIGTERM, with which Slurm ends a job, raise KeyboardInterrupt in this process, so that files are closed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the handler of Ctrl-C
