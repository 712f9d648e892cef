"""Compiled operators are there for the next run, also after one that was killed while it held torch's lock."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

LOAD = "from qwenvl.train.extensions import SHARED_MEMORY, load_operators; load_operators(SHARED_MEMORY)"
FOLDER = "from qwenvl.train.extensions import _folder; print(_folder())"


def test_neither_a_lock_left_by_a_killed_run_nor_a_foreign_ninja_stops_the_next(tmp_path):
    def run(code, **more):
        environment = os.environ | {"DS_ACCELERATOR": "cpu"} | more
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)

    folder = Path(run(FOLDER).stdout.strip())
    run(LOAD)
    built = [path.parent for path in folder.glob("*/*.so")]
    assert built, "nothing was compiled"
    # In a copy: runs of other tests load from the folder itself, and the first of them would remove the leftover.
    copy = shutil.copytree(built[0], tmp_path / folder.name / built[0].name)
    leftover = copy / "lock"
    leftover.touch()
    foreign = tmp_path / "bin" / "ninja"
    foreign.parent.mkdir()
    foreign.write_text("#!/bin/sh\nexit 1\n")
    foreign.chmod(0o755)
    path = f"{foreign.parent}{os.pathsep}{os.environ['PATH']}"
    assert str(leftover) in run(LOAD, TORCH_EXTENSIONS_DIR=str(tmp_path), PATH=path).stderr
    assert not leftover.exists()
    for library in built[0].glob("*.so"):
        assert (copy / library.name).stat().st_mtime_ns == library.stat().st_mtime_ns, "compiled again"
