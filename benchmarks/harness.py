"""What the benchmark programs share: flags, the machine, time and memory, repeated runs, and the two forms of a result.

A figure can be compared with another only if machine, load, commit and library versions of both are known. Every
program therefore prints them above its table and writes them, with every single run, into a JSON file. On a machine
that other work shares, compare figures of one run only: `alternate` runs a baseline in turn with what is measured, and
CPU seconds stand beside wall seconds. Without this file no program below benchmarks/ starts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
# Their versions change speed or scores. Those that are not installed are left out.
LIBRARIES = ("numpy", "pillow", "polars", "torch", "transformers", "vllm")


class Flags(argparse.ArgumentParser):
    """A parser with the flags of all benchmark programs: --smoke, --json and, where `repeat` is given, --repeat.

    Args:
        doc: docstring of the program, shown by --help.
        repeat: default number of runs; None for a program that gains nothing from a second run.
    """

    def __init__(self, doc: str, repeat: int | None = None) -> None:
        super().__init__(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.smoke: dict[str, Any] = {}
        if repeat is not None:
            text = "runs; the table has the median and, in brackets, the extremes (default: %(default)s)"
            self.add_argument("--repeat", type=int, default=repeat, metavar="N", smoke=1, help=text)
        self.add_argument("--smoke", action="store_true", help="smallest sizes, to see that the program runs")
        text = "file for the figures of every run; default: output/benchmarks/PROGRAM.json"
        self.add_argument("--json", type=Path, metavar="FILE", help=text)

    def add_argument(self, *names: str, smoke: Any = None, **options: Any) -> argparse.Action:
        """As argparse; `smoke` is the value under --smoke, unless the command line gives one."""
        action = super().add_argument(*names, **options)
        if smoke is not None:
            self.smoke[action.dest] = smoke
        return action

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """As argparse. Defaults of --smoke are set before parsing, so that flags beside it win."""
        if "--smoke" in (sys.argv[1:] if args is None else args):
            self.set_defaults(**self.smoke)
        return super().parse_args(args, namespace)


# ---------------------------------------------------------------------------------------------------------------------
# Machine and result


def machine() -> dict[str, Any]:
    """The machine and the code: CPU, cores, RAM (GiB), load, GPU, date (UTC), commit, versions of libraries."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    # torch would tell the GPU too, but to import it takes seconds, and memory that would count as the program's.
    ask = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    gpu = subprocess.run(ask, capture_output=True, text=True, check=False).stdout if shutil.which(ask[0]) else ""
    versions = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short=9", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, check=False).returncode == 1
    return {
        "cpu": names[0] if names else "unknown",
        # Not os.cpu_count(): a container or taskset may allow fewer.
        "cores": len(os.sched_getaffinity(0)),
        "ram_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
        "gpu": "; ".join(gpu.splitlines()) or None,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": commit.stdout.strip() + " with changes" * changed or None,
        "versions": versions,
    }


class Results:
    """Tables of figures: each row is printed as Markdown, and the JSON file renewed, as soon as the row is known.

    Args:
        arguments: what `Flags` parsed.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        # The parts of a program (`generation.py resume`) leave a file each.
        name = "-".join([Path(sys.argv[0]).stem, *filter(None, [getattr(arguments, "what", None)])])
        self.path = arguments.json or ROOT / "output" / "benchmarks" / f"{name}.json"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = machine()
        self.content: dict[str, Any] = {"command": shlex.join(sys.argv), "machine": found, "tables": {}}
        versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
        gpu = f", {found['gpu']}" if found["gpu"] else ""
        print(
            f"{found['cpu']}, {found['cores']} cores, {found['ram_gib']} GiB, load {found['load']}{gpu}; "
            f"{found['date']} UTC, commit {found['commit']}; {versions}\n",
            flush=True,
        )

    def table(self, columns: Mapping[str, str], title: str = "") -> None:
        """Begin a table. `columns`: format of the numbers by heading, such as {"images": "", "seconds": ".1f"}."""
        self.columns = dict(columns)
        self.rows = self.content["tables"][title] = []
        heading = f"\n{title}\n\n" if title else ""
        print(f"{heading}| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)

    def row(self, *cells: Any) -> None:
        """Add a row. A list is one number of each run: the table shows its median and extremes, the JSON all of it."""
        self.rows.append(dict(zip(self.columns, cells, strict=True)))
        shown = []
        for cell, form in zip(cells, self.columns.values(), strict=True):
            if cell is None:
                shown.append("")
            elif isinstance(cell, list):
                extremes = f" ({min(cell):{form}}-{max(cell):{form}})" if len(cell) > 1 else ""
                shown.append(f"{statistics.median(cell):{form}}{extremes}")
            else:
                shown.append(str(cell) if isinstance(cell, str | bool) else f"{cell:{form}}")
        print(f"| {' | '.join(shown)} |", flush=True)
        # Figures of numpy are no numbers to json.
        self.path.write_text(json.dumps(self.content, indent=1, default=float) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# Time and memory


@dataclass(slots=True)
class Cost:
    """What work took: wall seconds, CPU seconds of all its threads and processes, and its peak memory in MiB."""

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0


@contextmanager
def timed() -> Iterator[Cost]:
    """Measure a block of this process: its time, and the peak memory of the process up to the block's end."""
    usage, wall, cpu = Cost(), time.perf_counter(), time.process_time()
    yield usage
    usage.wall, usage.cpu = time.perf_counter() - wall, time.process_time() - cpu
    # Not resource.getrusage: ru_maxrss of a process begins with what its parent held when it was started.
    usage.peak = int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10


def alone(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a module's top level in a fresh process, so that memory and imports are its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


class MemoryWatch(threading.Thread):
    """Peak memory of a process and all its descendants, by phase; memory that they share counts once.

    Args:
        pid: the process. Set `over` to end the thread.
        phase: name of the first phase.
        with_files: count pages of mapped files too. Weights that are mapped from a checkpoint are such pages; the
            kernel takes them back when memory is short, so they do not decide whether a run fits.
    """

    def __init__(self, pid: int, phase: str = "", with_files: bool = True) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.lines = re.compile(rb"^Pss%s:\s+(\d+) kB" % (b"" if with_files else b"_(?:Anon|Shmem)"), re.MULTILINE)
        self.over = threading.Event()
        self.phases: dict[str, Cost] = {}
        self.begin(phase)
        self.start()

    def begin(self, phase: str) -> None:
        """End the phase before, and begin another."""
        self.began = time.perf_counter()
        self.phases[phase] = Cost()

    def run(self) -> None:
        """Look at the family's memory until `over` is set."""
        pause = 0.02
        while not self.over.wait(pause):
            began, family, size = time.perf_counter(), [self.pid], 0
            for pid in family:
                with suppress(OSError):  # it has just ended
                    size += sum(map(int, self.lines.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes())))
                    # Each thread has children of its own; those of the main thread alone would leave out workers.
                    for file in Path(f"/proc/{pid}/task").glob("*/children"):
                        family += map(int, file.read_text().split())
            usage = list(self.phases.values())[-1]
            usage.peak = max(usage.peak, size / 2**10)
            usage.wall = time.perf_counter() - self.began
            # A look walks the process's page tables and holds its memory lock: milliseconds a GiB. It may take a
            # twentieth of the time, so that a large process is not slowed down and a short one not missed.
            pause = max(0.02, 20 * (time.perf_counter() - began))


def run_command(words: Sequence[Any], folder: Path = ROOT, quiet: bool = False, log: Path | None = None,
                **environment: Any) -> Cost:  # fmt: skip
    """Run a command; returns what it and its descendants took.

    Args:
        words: program and arguments.
        folder: working folder.
        quiet: show nothing of what it writes to stderr. Its stdout is never shown.
        log: file for both, in place of that.
        environment: variables to add.

    Raises:
        SystemExit: it failed.
    """
    words = list(map(str, words))
    output: Any = log.open("w") if log else subprocess.DEVNULL
    errors = output if log else subprocess.DEVNULL if quiet else None
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    began = time.perf_counter()
    process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=errors, env=variables)
    watch = MemoryWatch(process.pid)
    # wait4 tells the CPU time of this child and its descendants alone, RUSAGE_CHILDREN that of all children so far.
    _, status, used = os.wait4(process.pid, 0)
    usage = Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime)
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.over.set()
    watch.join()
    usage.peak = watch.phases[""].peak
    if log:
        output.close()
    if process.returncode:
        said = f"\n{log.read_text()[-3000:]}" if log else ""
        raise SystemExit(f"{shlex.join(words)}: exit status {process.returncode}{said}")
    return usage


# ---------------------------------------------------------------------------------------------------------------------
# Beside a baseline


def alternate(variants: Mapping[str, Callable[[], T]], repeat: int) -> dict[str, list[T]]:
    """Run each variant `repeat` times in turn: A, B, A, B. Other work on the machine then meets all of them alike."""
    found: dict[str, list[T]] = {name: [] for name in variants}
    for _ in range(repeat):
        for name, run in variants.items():
            found[name].append(run())
    return found


@contextmanager
def checkouts(baseline: str | None) -> Iterator[dict[str, Path]]:
    """Folders with the code to measure, by name: a worktree of the commit `baseline`, where there is one, and `this`.

    A command takes the code of `folder` with `folder` as its working folder and `PYTHONPATH=folder`.
    """
    if baseline is None:
        yield {"this": ROOT}
        return
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), baseline], check=True)
        try:
            yield {baseline: tree, "this": ROOT}
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
