"""Compiled operators after a run that was killed while it held torch's lock."""

import os
import subprocess
import sys
from pathlib import Path

LOAD = "from qwenvl.train.extensions import SHARED_MEMORY, load_operators; load_operators(SHARED_MEMORY)"
FOLDER = "from qwenvl.train.extensions import _folder; print(_folder())"


def test_a_lock_left_by_a_killed_run_does_not_stop_the_next():
    def run(code):
        environment = os.environ | {"DS_ACCELERATOR": "cpu"}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=True
        )

    folder = Path(run(FOLDER).stdout.strip())
    run(LOAD)
    built = [path.parent for path in folder.glob("*/*.so")]
    assert built, "nothing was compiled"
    leftover = built[0] / "lock"
    leftover.touch()
    assert str(leftover) in run(LOAD).stderr
    assert not leftover.exists()
