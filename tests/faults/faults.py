"""The faults: each disturbs a step at a random moment and leaves an output that the same command must make good."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from .disks import disk
from .door import Broken, Door
from .steps import Generation, Scoring, Training
from .world import Step

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class NotPossible(Exception):
    """This machine cannot bring the fault about; the message says why."""


@dataclass(frozen=True, slots=True)
class Disturbed:
    """An output after its faults: how many hit, and in which environment the step goes on."""

    output: Path
    faults: int
    environment: Mapping[str, str] = field(default_factory=dict)


Fault = Callable[[Step, Path, Random], contextlib.AbstractContextManager[Disturbed]]


@contextlib.contextmanager
def kill(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """SIGKILL, up to three times: while it works, and while it goes on from there."""
    output = folder / "out"
    yield Disturbed(output, _strike(step, output, rng, signal.SIGKILL, rng.randint(1, 3)))


@contextlib.contextmanager
def terminate(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """SIGTERM, as from Slurm: it ends by itself and says how to go on."""
    output = folder / "out"
    yield Disturbed(output, _strike(step, output, rng, signal.SIGTERM, 1))


def _strike(
    step: Step,
    output: Path,
    rng: Random,
    number: signal.Signals,
    times: int,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Signal runs of the step at random moments of their work; the number that met a running one, at least 1."""
    assert step.reference.exists()  # its run tells how long the work takes
    hits, longest = 0, step.working_seconds
    for _ in range(times):
        hits += _struck(step, output, rng.uniform(0, longest), number, environment)
    for _ in range(20):
        if hits:
            return hits
        shutil.rmtree(output, ignore_errors=True)
        longest *= 0.7
        hits += _struck(step, output, rng.uniform(0, longest), number, environment)
    raise Broken("the runs are over before they can be hit")


def _struck(
    step: Step, output: Path, after: float, number: signal.Signals, environment: Mapping[str, str] | None
) -> bool:
    door = step.start(output, environment)
    door.wait_for_work()
    if not door.hit(after, number):
        return False
    if number == signal.SIGTERM and door.process.returncode:
        if door.process.returncode > 0:
            door.check_refusal("the same command goes on")
        elif door.process.returncode != -signal.SIGTERM or "Traceback" in door.errors:
            raise Broken(f"status {door.process.returncode} after SIGTERM: {door.errors[-2000:]}")
    return True


@contextlib.contextmanager
def full_disk(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """No space is left on the device before all is written."""
    largest = max(path.stat().st_size for path in step.reference.rglob("*") if path.is_file())
    with disk(folder / "disk") as small:
        small.leave(rng.randrange(0, step.bytes * 9 // 10), largest)
        door = step.start(small.output, prefix=small.prefix)
        door.wait()
        door.check_refusal("No space left", "File too large")
        small.free()
        yield Disturbed(small.output, 1)


@contextlib.contextmanager
def read_only(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """The output cannot be written to, from the start or after a killed run."""
    with disk(folder / "disk") as small:
        if not small.can_protect:
            raise NotPossible("root without the right to mount")
        if rng.random() < 0.5:
            _strike(step, small.output, rng, signal.SIGKILL, 1)
        small.protect(True)
        door = step.start(small.output)
        door.wait()
        small.protect(False)
        door.check_refusal("Read-only file system", "Permission denied")
        yield Disturbed(small.output, 1)


@contextlib.contextmanager
def torn_record(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """The last record of a file is cut, or ends in zeros (power failure), or noise follows it."""
    output = folder / "out"
    shutil.copytree(step.reference, output)
    path = rng.choice(step.reopen(output))
    data = path.read_bytes()
    start = data.rfind(b"\n", 0, len(data) - 1) + 1
    cut = rng.randrange(start, len(data)) if start < len(data) else start
    tails = [b"", bytes(len(data) - cut), rng.randbytes(50).replace(b"\n", b"")]
    kind = rng.choice((0, 2)) if step.synced else rng.randrange(3)
    path.write_bytes((data if kind == 2 else data[:cut]) + tails[kind])
    yield Disturbed(output, 1)


@contextlib.contextmanager
def two_writers(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """The same command twice at once: one works, the other says so and ends, or waits."""
    output = folder / "out"
    assert step.reference.exists()
    first = step.start(output)
    first.wait_for_work()
    with contextlib.suppress(Exception):
        first.process.wait(rng.uniform(0, step.working_seconds / 4))
    second = step.start(output)
    statuses = first.wait(), second.wait()
    for door, status in zip((first, second), statuses, strict=True):
        if status:
            door.check_refusal("another process")
    if all(statuses):
        raise Broken("each was refused because of the other")
    yield Disturbed(output, 1)


@contextlib.contextmanager
def clock_jump(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """A run twenty years ahead is killed, and goes on with a clock that falls back by thirty years and more."""
    if not FAKETIME.exists():
        raise NotPossible("libfaketime is not installed (Debian: apt-get install libfaketime)")
    output, clock = folder / "out", folder / "clock"
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    clock.write_text("+20y\n")
    hits = _strike(step, output, rng, signal.SIGKILL, 1, environment)
    clock.write_text(f"-{rng.randint(10, 40)}y\n")
    yield Disturbed(output, hits, environment)


@contextlib.contextmanager
def lost_image(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """Images are deleted: they are counted as missing; when they are back, they are made good."""
    output = folder / "out"
    if isinstance(step, Generation):  # here they are outputs, and made anew
        shutil.copytree(step.reference, output)
        for image in rng.sample(sorted(output.glob("*/*.png")), 3):
            image.unlink()
        yield Disturbed(output, 3)
        return
    lost = rng.sample(step.images(), 3)
    for image in lost:
        image.rename(image.with_suffix(".away"))
    try:
        door = step.start(output)
        door.wait()
        counted = step.lost_images(output, door)
    finally:
        for image in lost:
            image.with_suffix(".away").rename(image)
    if counted != len(lost):
        raise Broken(f"{len(lost)} images were lost, the summary counts {counted}")
    yield Disturbed(output, len(lost))


_OUT_OF_MEMORY: dict[type[Step], str] = {
    Generation: """
from dyneval.demo.painters import DemoModel
from dyneval.generation.model import BatchTooLarge
inner = DemoModel.generate
def method(self, batch):
    if len(batch) > FITS:
        raise BatchTooLarge("CUDA out of memory")
    return inner(self, batch)
DemoModel.generate = method
sys.argv += ["--devices", "cpu"]  # one process, this one
""",
    Scoring: """
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
inner = Qwen3VLModel.forward
def method(self, input_ids=None, **rest):
    if len(input_ids) > FITS:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return inner(self, input_ids=input_ids, **rest)
Qwen3VLModel.forward = method
""",
    Training: """
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel
inner, batches = Qwen3VLModel.forward, []
def method(self, *arguments, **rest):
    batches.append(1)
    if len(batches) > FITS:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return inner(self, *arguments, **rest)
Qwen3VLModel.forward = method
""",
}
"""Memory for batches of up to FITS, in training for FITS batches: a stand-in for the GPU that is not there, put in
before the door opens."""


@contextlib.contextmanager
def out_of_memory(step: Step, folder: Path, rng: Random) -> Iterator[Disturbed]:
    """A batch does not fit into memory: smaller ones are tried; training says what to do, and goes on."""
    output = folder / "out"
    door, *rest = (str(argument) for argument in step.arguments(output) if argument != "-m")
    runner = "run_path" if door.endswith(".py") else "run_module"
    program = (
        f"import sys, runpy\nFITS = {rng.randint(1, 3)}\nsys.argv = {[door, *rest]!r}\n"
        f"{_OUT_OF_MEMORY[type(step)]}\nrunpy.{runner}(sys.argv[0], run_name='__main__')"
    )
    run = Door(["-c", program], output, step.environment())
    if run.wait() and isinstance(step, Training):
        run.check_refusal("One sample does not fit")
    elif run.process.returncode:
        raise Broken(f"it ended because a batch did not fit: {run.errors[-2000:]}")
    if "out of memory" not in run.errors:
        raise Broken("nothing was said of the memory")
    yield Disturbed(output, 1)


FAULTS: dict[str, Fault] = {
    "kill -9": kill,
    "SIGTERM": terminate,
    "disk full": full_disk,
    "read-only output": read_only,
    "corrupted last record": torn_record,
    "two writers": two_writers,
    "clock jump": clock_jump,
    "image deleted": lost_image,
    "out of memory": out_of_memory,
}


def meets(step: type[Step], fault: str) -> bool:
    """False where the fault cannot come about: no images are read, nothing is done in batches."""
    if fault == "out of memory":
        return step in _OUT_OF_MEMORY
    return fault != "image deleted" or step is Generation or step.images is not Step.images
