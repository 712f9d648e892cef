"""Processes that end in order: workers with their parent, and a run on SIGTERM as on Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.pool import Pool
from typing import Any, NoReturn

_LOOK = 0.5
"""Seconds between two looks at the parent."""


def end_with_parent(parent: int) -> None:
    """End this process when `parent` is gone; for workers, and the initializer of pools.

    A worker hears of the death of a killed parent late, where it is at work, or never: if it was forked, it holds the
    other end of the pipe too on which it waits. It would keep a device, or whatever it inherited.
    """
    never = threading.Event()

    def watch() -> NoReturn:
        while os.getppid() == parent:
            never.wait(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def forked_pool(workers: int) -> Pool:
    """A pool of forked processes, which share what this one has in memory and end with it."""
    return multiprocessing.get_context("fork").Pool(workers, end_with_parent, (os.getpid(),))


def interrupt_on_sigterm() -> None:
    """Let SIGTERM, with which Slurm ends a job, raise KeyboardInterrupt in this process, so that files are closed."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
