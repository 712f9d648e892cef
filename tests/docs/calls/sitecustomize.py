"""Notes which file of the repository calls which, in every Python process that a command starts; see test_paths.py.

Python imports a module of this name before anything else when its folder is on PYTHONPATH. Each process writes its
calls, one "caller<tab>callee" a line, to a file of its own in the folder $CALLS_TO.
"""

import atexit
import builtins
import importlib
import multiprocessing.util
import os
import sys
import threading
from pathlib import Path

ROOT = os.environ["CALLS_BELOW"] + os.sep
calls: dict[tuple[str, str], None] = {}


def ours(frame):
    name = frame.f_code.co_filename
    return name.startswith(ROOT) and ".venv" not in name


def note(frame, event, _):
    if event != "call" or not ours(frame):
        return
    caller = frame.f_back
    while caller is not None and not ours(caller):
        caller = caller.f_back
    # What is handed to a thread has no caller there.
    calls["" if caller is None else caller.f_code.co_filename, frame.f_code.co_filename] = None


def write():
    sys.setprofile(None)
    lines = ["\t".join(name.removeprefix(ROOT) for name in pair) + "\n" for pair in calls]
    Path(os.environ["CALLS_TO"], str(os.getpid())).write_text("".join(lines))


def unnoted(load):
    """Make an import that is not noted: those of torch and the like are a million calls, and no pair passes through."""

    def wrapped(*arguments, **options):
        before = sys.getprofile()
        sys.setprofile(None)
        try:
            return load(*arguments, **options)
        finally:
            sys.setprofile(before)

    return wrapped


builtins.__import__ = unnoted(builtins.__import__)
importlib.import_module = unnoted(importlib.import_module)
atexit.register(write)
# A forked worker ends without atexit, and forgets what its parent had registered.
multiprocessing.util.register_after_fork(write, lambda _: multiprocessing.util.Finalize(None, write, exitpriority=0))
threading.setprofile(note)
sys.setprofile(note)
