"""A door running in a process group of its own, so that it can be killed and what it leaves behind be seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import processes

ROOT = Path(__file__).parents[2]
PATIENCE = 1800.0
"""Seconds after which a door counts as hanging."""
_ORPHANS = 60.0
"""Seconds that the children of a killed door have to notice and end."""


class Broken(AssertionError):
    """A promise was not kept; the message says which."""


class Door:
    """A started door; `output` is watched for its first sign of work."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        output: Path,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """`arguments` follow the interpreter; `prefix` comes before it."""
        self.output = output
        self._before = _snapshot(output)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  read as long as the door is of interest
        self.process = processes.Process(
            [*prefix, sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        self.started = time.monotonic()

    def wait_for_work(self) -> None:
        """Return when the door has changed something in its output, or has ended."""
        while self.process.poll() is None and _snapshot(self.output) == self._before:
            time.sleep(0.02)

    def hit(self, after: float, number: signal.Signals) -> bool:
        """Send a signal `after` seconds from now; False when the door had ended by then."""
        try:
            self.process.wait(max(after, 0))
        except subprocess.TimeoutExpired:
            self.process.send_signal(number)
            self.wait()
            return True
        self.wait()
        return False

    def wait(self) -> int:
        """Exit status. Raises Broken when the door hangs, or leaves processes behind."""
        try:
            status = self.process.wait(PATIENCE)
            deadline = time.monotonic() + _ORPHANS
            while _alive(self.process.pid):
                if time.monotonic() > deadline:
                    raise Broken("processes that it had started were left behind")
                time.sleep(0.01)
            return status
        except subprocess.TimeoutExpired:
            raise Broken(f"still running after {PATIENCE:.0f} s") from None
        finally:
            if _alive(self.process.pid):
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    @property
    def errors(self) -> str:
        """What it has written to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")

    def check_refusal(self, *words: str) -> None:
        """It must have ended with a status other than 0 and a message with one of `words`, not a traceback."""
        if self.process.returncode == 0:
            raise Broken("it ended with status 0")
        if "Traceback" in self.errors or not any(word in self.errors for word in words):
            raise Broken(f"expected a message with one of {words}, found: {self.errors[-2000:]}")


def _snapshot(folder: Path) -> set[tuple[str, int]]:
    """Names and sizes of the files below a folder, as far as they stand still."""
    found = set()
    for path in folder.rglob("*"):
        try:
            found.add((str(path), path.stat().st_size))
        except FileNotFoundError:
            continue
    return found


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
