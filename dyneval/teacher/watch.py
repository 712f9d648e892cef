"""The progress file of an annotation run, which `dyneval status` reads from another terminal or machine.

A run writes `<run>.progress.json` into its folder as pairs are finished, every few seconds at most, and once more when
it ends. Runs take days and shards run on several machines; without the file, nobody could see how far all of them are.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write
from dyneval.llm.chat import TokenTally

if TYPE_CHECKING:
    from dyneval.teacher.summary import RunCounts

PERIOD = 5.0
"""Seconds between two writes."""
WINDOW = 300.0
"""Seconds over which the rate is measured: a server that slows down is soon seen."""
SILENCE = 1800.0
"""A run on another machine that wrote nothing for so many seconds has most likely been killed: one that waits for its
servers writes nothing either, for 900 seconds unless it is told otherwise (--patience)."""
SUFFIX = ".progress.json"
State = Literal["running", "finished", "stopped"]


class Progress(Struct, frozen=True, kw_only=True):
    """How far a run is; times are seconds since 1970."""

    run: str
    state: State
    host: str
    process: int
    started: float
    updated: float
    pairs: int
    """Pairs gone through, finished before or in this run."""
    annotated: int
    """Pairs that were not finished before."""
    total: int
    """Pairs of the run; of a part about as many as its share is."""
    rejected: dict[str, int]
    """Rejects by kind."""
    requests: int
    prompt_tokens: int
    completion_tokens: int
    pairs_per_second: float | None
    """Over the last minutes, without those that were finished before; None at the beginning."""
    gpus: float = 0

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the last minutes; None where nobody knows."""
        if self.state != "running" or not self.pairs_per_second:
            return None
        return max(0, self.total - self.pairs) / self.pairs_per_second

    @property
    def seems_dead(self) -> bool:
        """True where the file says that the run goes on, and most likely it does not."""
        if self.state != "running":
            return False
        # Process numbers say something on their own machine only; elsewhere silence is all there is to go by.
        if self.host == socket.gethostname():
            return not Path(f"/proc/{self.process}").exists() if Path("/proc/self").exists() else False
        return time.time() - self.updated > SILENCE


@dataclass(kw_only=True)
class ProgressWriter:
    """Writes the progress file of one run.

    Attributes:
        folder: of the run.
        run: its name.
        total: its pairs, about as many as there are.
        gpus: GPUs behind the teacher.
    """

    folder: Path
    run: str
    total: int
    gpus: float
    _started: float = field(default_factory=time.time)
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _next: float = 0.0

    def write(self, counts: RunCounts, tally: TokenTally, state: State = "running") -> None:
        """Write the counts, unless that was done less than `PERIOD` ago and the run goes on."""
        now = time.monotonic()
        if state == "running" and now < self._next:
            return
        self._next = now + PERIOD
        self._seen.append((now, counts.annotated))
        # At least two entries stay, else a run that finishes one pair in ten minutes would have no rate.
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        before, pairs = self._seen[0]
        progress = Progress(
            run=self.run,
            state=state,
            host=socket.gethostname(),
            process=os.getpid(),
            started=self._started,
            updated=time.time(),
            pairs=counts.pairs,
            annotated=counts.annotated,
            total=self.total,
            rejected=dict(counts.by_kind()) | ({"row": counts.bad_rows} if counts.bad_rows else {}),
            requests=tally.requests,
            prompt_tokens=tally.prompt_tokens,
            completion_tokens=tally.completion_tokens,
            pairs_per_second=(counts.annotated - pairs) / (now - before) if now > before else None,
            gpus=self.gpus,
        )
        with atomic_write(self.folder / f"{self.run}{SUFFIX}", "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(progress), indent=2))


def runs_in(folder: Path) -> Iterator[tuple[str, Progress]]:
    """Yield the runs of a folder and of its shards, each by its name below the folder.

    Raises DataFileError: there is none, or a file cannot be read.
    """
    if not folder.is_dir():
        raise DataFileError(f"{folder}: no such folder")
    paths = sorted(folder.glob(f"*{SUFFIX}")) + sorted(folder.glob(f"shards/*/*{SUFFIX}"))
    if not paths:
        raise DataFileError(f"{folder}: holds no *{SUFFIX}; name the --output of an annotation run")
    for path in paths:
        try:
            progress = msgspec.json.decode(path.read_bytes(), type=Progress)
        except (OSError, msgspec.MsgspecError) as error:
            raise DataFileError(f"{path}: cannot be read ({error})") from error
        yield str(path.relative_to(folder)).removesuffix(SUFFIX), progress
