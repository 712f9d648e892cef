"""Many clients at one server: what they get, how long it takes, what memory does.

    python benchmarks/serving.py     # 500 clients for 60 s, on the tiny random student
    python benchmarks/serving.py --smoke    # the short form: 40 clients for 3 s
    python benchmarks/serving.py --attacks --no-baseline    # the same clients alone, then beside benchmarks/attacks.py

Every client sends one image after the other and, told to come back later, does so when Retry-After says. The baseline
in the same run is the same server without micro-batching. The exit status is 1 when anything but 200, or 429 or 503
with Retry-After, was answered, when an answer stayed out, when what the server took is not what clients got, or when,
in runs of half a minute or more, its memory grew by more than a tenth after the first quarter; with attacks also when
the 95th percentile of the answers is over twice that without.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
from harness import Flags, Results
from PIL import Image

# A random student ends no list and no text by itself.
LIMITS = ["--max-questions", "2", "--max-text", "8"]
# Memory may grow by so much after the first quarter of a run of at least LONG seconds.
GROWTH, LONG = 1.1, 30
# Seconds between two looks at the server's memory.
LOOK = 0.25


@dataclass
class LoadFigures:
    """What the clients of a run got.

    Attributes:
        statuses: answers by HTTP status; names of errors where none came, and `STATUS! text` of one that is wrong.
        seconds: of each answer with a score.
        memory: resident bytes of the server, one look after the other.
        elapsed: seconds of the run.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    elapsed: float = 0.0


@contextmanager
def server(
    student: Path, batch_size: int, queue: int, device: str, flags: Sequence[str] = LIMITS
) -> Iterator[tuple[str, int]]:
    """Run `dyneval serve`; yields its address and process id."""
    command = [sys.executable, "-m", "dyneval", "serve", "--checkpoint", str(student), "--port", "0", *flags]
    command += ["--batch-size", str(batch_size), "--queue", str(queue), "--device", device]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            found = None
            while found is None:
                # In this order: what it says at its end is in the log then.
                is_over = process.poll() is not None
                log.seek(0)
                said = log.read()
                if is_over:
                    raise SystemExit(said)
                found = re.search(r"running on (\S+)", said)
                time.sleep(0.1)
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait()


async def client(http: httpx2.AsyncClient, image: bytes, number: int, until: float, figures: LoadFigures) -> None:
    """Score until the time is over; the last request may end after it."""
    # All at the same instant would measure the rush and not the load.
    await asyncio.sleep(random.random())
    while time.monotonic() < until:
        started = time.monotonic()
        try:
            fields = {"prompt": f"a circle, {number % 50}"}
            answer = await http.post("/v1/score", files={"image": ("i.png", image)}, data=fields)
        except httpx2.HTTPError as error:
            figures.statuses[type(error).__name__] += 1
            continue
        pause = answer.headers.get("retry-after", "")
        known = answer.status_code == 200 or (answer.status_code in (429, 503) and pause.isdigit())
        figures.statuses[str(answer.status_code) if known else f"{answer.status_code}! {answer.text[:300]}"] += 1
        if answer.status_code == 200:
            figures.seconds.append(time.monotonic() - started)
        else:
            # Somewhat later than told, each by another time: those who were refused together do not come back together.
            await asyncio.sleep(float(pause or 1) * random.uniform(1, 1.5))


async def watch(pid: int, until: float, figures: LoadFigures) -> None:
    """Note the server's resident memory four times a second."""
    while time.monotonic() < until:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        figures.memory.append(pages * os.sysconf("SC_PAGE_SIZE"))
        await asyncio.sleep(LOOK)


async def run_clients(address: str, pid: int, clients: int, seconds: float, attacks: bool) -> tuple[LoadFigures, str]:
    """Run the clients, and the attackers beside them; returns what came back, and the server's own metrics after it."""
    figures = LoadFigures()
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((96, 96)).save(buffer, "PNG")
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=180, limits=limits) as http:
        with attackers(httpx2.URL(address)) if attacks else nullcontext():
            started = time.monotonic()
            until = started + seconds
            tasks = [client(http, buffer.getvalue(), number, until, figures) for number in range(clients)]
            # A request may wait for 180 s and be told to come back once: an answer that stays out longer fails the run.
            await asyncio.wait_for(asyncio.gather(*tasks, watch(pid, until, figures)), seconds + 360)
            figures.elapsed = time.monotonic() - started
        return figures, (await http.get("/metrics")).text


@contextmanager
def attackers(address: httpx2.URL) -> Iterator[None]:
    """Attack the server for as long as the block runs; what the attackers were answered goes to standard error."""
    command = [sys.executable, str(Path(__file__).with_name("attacks.py")), address.host, str(address.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        # The line "ready": its pictures are made.
        process.stdout.readline()
        yield
        process.stdin.close()
        print(process.stdout.read().strip(), file=sys.stderr)


def evaluate(name: str, figures: LoadFigures, metrics: str, attacks: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of a run, and what is wrong with it; attackers' pairs may be scored too."""
    settled = len(figures.memory) // 4
    early, late = max(figures.memory[: settled + 1]), max(figures.memory[settled:])
    counted = re.search(r'dyneval_pairs_total\{outcome="scored"\} (\S+)', metrics)
    taken = int(float(counted[1])) if counted else 0
    cuts = quantiles(figures.seconds, n=20) if len(figures.seconds) > 1 else [0.0] * 19
    row = {
        "server": name,
        "scored": len(figures.seconds),
        "a second": round(len(figures.seconds) / figures.elapsed, 1),
        "429": figures.statuses["429"],
        "503": figures.statuses["503"],
        "p50 s": round(cuts[9], 2),
        "p95 s": round(cuts[18], 2),
        "MB early": early // 10**6,
        "MB late": late // 10**6,
    }
    wrong = [f"{count} x {status}" for status, count in figures.statuses.items() if status not in ("200", "429", "503")]
    if taken < len(figures.seconds) or (taken > len(figures.seconds) and not attacks):
        wrong.append(f"the server scored {taken} pairs, clients got {len(figures.seconds)}")
    if not figures.seconds:
        wrong.append("nothing was scored")
    if late > GROWTH * early and len(figures.memory) * LOOK >= LONG:
        wrong.append(f"memory grew from {early} to {late} bytes")
    return row, [f"{name}: {one}" for one in wrong]


def main() -> int:
    """Run the benchmark; returns the exit status."""
    flags = Flags(__doc__)
    flags.add_argument("--clients", type=int, default=500, smoke=40, help="default: %(default)s")
    flags.add_argument("--seconds", type=float, default=60, smoke=3, help="default: %(default)s")
    flags.add_argument(
        "--queue", type=int, default=64, smoke=16, help="pairs that may wait in the server; default: %(default)s"
    )
    flags.add_argument("--checkpoint", type=Path, help="a student; default: the tiny random one, made on the way")
    flags.add_argument("--device", default="cpu", help="default: %(default)s")
    flags.add_argument("--no-baseline", action="store_true", help="leave out the server without micro-batching")
    flags.add_argument("--attacks", action="store_true", help="the same again, with attackers beside the clients")
    arguments = flags.parse_args()
    results = Results(arguments)
    # Some systems allow 1,024 open files, fewer than the connections of clients and attackers.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most), most))
    names = ("server", "scored", "a second", "429", "503", "p50 s", "p95 s", "MB early", "MB late")
    results.table(dict.fromkeys(names, ""))
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        student = arguments.checkpoint or Path(folder)
        if arguments.checkpoint is None:
            from dyneval.demo.tiny_model import build_tiny_model
            from dyneval.processing import Processor

            build_tiny_model(student, task_tokens=True)
            # Small images: what is measured is the server, not the model.
            Processor.from_pretrained(student, min_pixels=784, max_pixels=9216).save_pretrained(student)
        runs = [(16, False)] if arguments.no_baseline else [(1, False), (16, False)]
        for batch_size, attacks in runs + [(16, True)] * arguments.attacks:
            with server(student, batch_size, arguments.queue, arguments.device) as (address, pid):
                found = asyncio.run(run_clients(address, pid, arguments.clients, arguments.seconds, attacks))
            row, trouble = evaluate(f"batches of up to {batch_size}{', attacked' * attacks}", *found, attacks)
            results.row(*(row[name] for name in names))
            wrong += trouble
        if arguments.attacks:
            alone, attacked = results.rows[-2:]
            if attacked["p95 s"] > 2 * alone["p95 s"]:
                wrong.append(f"p95 {alone['p95 s']} s without attacks, {attacked['p95 s']} s with them")
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
