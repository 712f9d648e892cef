"""One worker a device. Several devices get a process each, and work is handed to whichever is free.

The parent owns the work and the records; a worker loads the model, draws what it is handed and sends results back over
its own pipe. So a worker that dies takes nothing with it: its requests go to another one, once. CUDA_VISIBLE_DEVICES is
read, through the library that counts the devices, and never written.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dyneval.errors import GenerationError
from dyneval.generation.catalogue import Entry
from dyneval.generation.engine import Emit, Engine, Result
from dyneval.generation.model import BuildOptions, ModelBroken, NotMade, Request, RunOptions
from dyneval.generation.saving import ImageFormat
from dyneval.work.processes import end_with_parent

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything a worker needs to draw for one model; can be sent to another process.

    Attributes:
        settings: what is asked of the model, as recorded with each image.
        recorded: settings of an image that is already there, empty when there is none.
    """

    entry: Entry
    root: Path
    build: BuildOptions
    run: RunOptions
    settings: Mapping[str, Any]
    image_format: ImageFormat = "png"
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def engine(self, device: str) -> Engine:
        """Load the model. Raises GenerationError when it cannot be loaded, or is not what was used so far."""
        spec = self.entry.load()
        if missing := spec.missing_packages():
            raise GenerationError(f"{spec.slug} needs {' and '.join(missing)}; run: pip install {' '.join(missing)}")
        model = spec.build(self.build, self.run, device)
        for name in ("revision", "dtype"):
            before, now = self.recorded.get(name), model.facts.get(name)
            if before and before != now:
                model.close()
                raise GenerationError(
                    f"{self.entry.slug}: the images in {self.root} were made with {name} {before}, here it is {now}. "
                    "Make it the same (--revision; a CPU runs in float32), or choose another --output."
                )
        return Engine(
            model=model,
            slug=self.entry.slug,
            root=self.root,
            settings=self.settings,
            image_format=self.image_format,
            batch_size=(self.run.batch_size or model.batch_size) if spec.batches else 1,
        )


def draw(job: Job, requests: Sequence[Request], emit: Emit, devices: Sequence[str]) -> None:
    """Hand a result for each request to `emit`; one device draws in this process, several in one process each.

    There are never more workers than batches.

    Raises:
        GenerationError: the model cannot be loaded.
        ModelBroken: no worker is left that can go on.
    """
    batches = math.ceil(len(requests) / (job.run.batch_size or job.entry.load().batch_size))
    devices = devices[:batches]
    if len(devices) == 1:
        engine = job.engine(devices[0])
        try:
            engine.run(requests, emit)
        finally:
            engine.model.close()
    else:
        _Dispatcher(job, requests, emit).run(devices)


@dataclass(slots=True)
class _Ready:
    batch_size: int


@dataclass(slots=True)
class _Finished:
    """The chunk is done; `broken` says why the worker can take no more."""

    broken: str | None = None


@dataclass(slots=True)
class _Worker:
    device: str
    process: BaseProcess
    pipe: Connection
    batch_size: int = 0
    holding: dict[str, Request] = field(default_factory=dict)


class _Dispatcher:
    def __init__(self, job: Job, requests: Sequence[Request], emit: Emit) -> None:
        self.job = job
        self.emit = emit
        self.todo = deque(requests)
        self.lost_once: set[str] = set()
        self.trouble: list[str] = []
        self.workers: dict[Connection, _Worker] = {}

    def run(self, devices: Sequence[str]) -> None:
        try:
            for device in devices:
                self._start(device)
            while self.workers:
                for pipe in wait(list(self.workers)):
                    self._hear(self.workers[pipe])  # type: ignore[index]
        finally:
            for worker in list(self.workers.values()):
                self._end(worker)
        if self.todo:
            raise ModelBroken(f"{self.job.entry.slug}: no worker is left: {'; '.join(self.trouble)}")

    def _start(self, device: str) -> None:
        # spawn: a forked process cannot use CUDA once the parent has.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.job, device), daemon=True)
        process.start()
        theirs.close()  # so that the death of the worker ends the pipe
        self.workers[ours] = _Worker(device, process, ours)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            self._lost(worker, f"the worker on {worker.device} died (exit {worker.process.exitcode})")
            return
        if isinstance(message, _Ready):
            worker.batch_size = message.batch_size
            self._hand_out(worker)
        elif isinstance(message, _Finished):
            if message.broken:
                self.todo.extendleft(worker.holding.values())
                self._drop(worker, message.broken)
            else:
                self._hand_out(worker)
        else:
            worker.holding.pop(_pair_id(message), None)
            self.emit(message)

    def _hand_out(self, worker: _Worker) -> None:
        chunk = [self.todo.popleft() for _ in range(min(worker.batch_size, len(self.todo)))]
        if not chunk:
            self._drop(worker)
            return
        worker.holding = {request.pair_id: request for request in chunk}
        try:
            worker.pipe.send(chunk)
        except OSError:
            log.warning("the worker on %s is gone before its next chunk", worker.device)  # its pipe's end is heard next

    def _lost(self, worker: _Worker, reason: str) -> None:
        """Give what a dead worker held to another, but not what has already been lost once: it may be the cause."""
        for pair_id, request in worker.holding.items():
            if pair_id in self.lost_once:
                self.emit(NotMade(request=request, reason=f"{reason}, for the second time with this prompt"))
            else:
                self.lost_once.add(pair_id)
                self.todo.append(request)
        self._drop(worker, reason)

    def _drop(self, worker: _Worker, reason: str | None = None) -> None:
        if reason:
            log.error("%s: %s", self.job.entry.slug, reason)
            self.trouble.append(reason)
        del self.workers[worker.pipe]
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        worker.pipe.close()  # a worker that waits for work ends by itself
        worker.process.join(10)
        if worker.process.is_alive():
            worker.process.terminate()


def _pair_id(result: Result) -> str:
    return result.request.pair_id if isinstance(result, NotMade) else result.pair_id


def _work(pipe: Connection, job: Job, device: str) -> None:
    """Body of a worker process: load, then draw chunk after chunk until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then closes the pipe
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)  # it would notice only after its batch, with the device held and files still written
    logging.basicConfig(level=logging.INFO, format=f"[{device}] %(message)s")
    try:
        engine = job.engine(device)
    except Exception as error:  # the parent reports it; other devices may do
        pipe.send(_Finished(broken=f"{device}: {error}"))
        return
    try:
        pipe.send(_Ready(engine.batch_size))
        while True:
            engine.run(pipe.recv(), pipe.send)
            pipe.send(_Finished())
    except (EOFError, ConnectionError):
        return  # the parent has no more work, or is gone
    except (ModelBroken, OSError) as error:  # OSError: an image cannot be written (disk full)
        with suppress(ConnectionError):  # the parent met the same full disk, and is gone
            pipe.send(_Finished(broken=f"{device}: {error}"))
    finally:
        engine.model.close()
