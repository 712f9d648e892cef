"""Drawing with one model on one device, in several processes, or on a Ray cluster.

`DeviceTask` holds what a worker needs, `load_worker` makes one of it, and `draw` cuts the requests into tasks and
yields what comes back. The executors themselves are shared with the other steps (`dyneval.work.executors`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dyneval.errors import GenerationError
from dyneval.generation.devices import choose_devices
from dyneval.generation.engine import DrawingLoop, Result
from dyneval.generation.model import BuildOptions, ImageRequest, ModelSpec, NoImage, RunOptions, install_command
from dyneval.generation.saving import ImageFormat
from dyneval.work.executors import Executor, Here, Lost, Processes, Ray

WITHOUT_GPU = ("demo", "hosted")
"""Families that draw on the CPU, or elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceTask:
    """Everything a worker needs to draw for one model; can be sent to another process.

    Attributes:
        spec: the model.
        root: the folder of images, by a path that holds on every machine.
        build: what images look like.
        run: where and how fast they are made.
        settings: what is asked of the model, as recorded with each image.
        image_format: of the files.
        recorded: settings of an image that exists already; empty when none does.
    """

    spec: ModelSpec
    root: Path
    build: BuildOptions
    run: RunOptions
    settings: Mapping[str, Any]
    image_format: ImageFormat = "png"
    recorded: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """How many images are drawn together; 1 where an image would depend on the others of its batch."""
        return (self.run.batch_size or self.spec.batch_size) if self.spec.batches else 1


def load_worker(task: DeviceTask, device: str) -> DrawingLoop:
    """Load the model of a task, in the process where it is to draw.

    Args:
        task: the model, and all that is asked of it.
        device: "cuda:0", "cpu".

    Raises:
        GenerationError: the model cannot be loaded, or is not what was used so far.
    """
    spec = task.spec
    if missing := spec.missing_packages():
        raise GenerationError(f"{spec.slug} needs {' and '.join(missing)}; run: {install_command(missing)}")
    model = spec.build(task.build, task.run, device)
    # Known only when the weights are loaded: a CPU runs in float32, and a branch without a recorded commit may have
    # moved. A folder would hold two kinds of images under the same settings.
    for name in ("revision", "dtype"):
        before, now = task.recorded.get(name), model.facts.get(name)
        if before and before != now:
            model.close()
            way = f"--revision {before}" if name == "revision" else "a CPU has float32, a GPU the model's own"
            raise GenerationError(
                f"{spec.slug}: the images in {task.root} were made with {name} {before}, here it is {now}. "
                f"Draw with the same ({way}), or choose another --output."
            )
    return DrawingLoop(
        model=model,
        slug=spec.slug,
        root=task.root,
        settings=task.settings,
        image_format=task.image_format,
        # The loaded model's own size, not the spec's: a hosted one takes eight times as many as are in flight.
        batch_size=(task.run.batch_size or model.batch_size) if spec.batches else 1,
    )


def choose_executor(
    task: DeviceTask, requests: int, devices: Sequence[str] = (), cluster: Ray | None = None
) -> Executor:
    """Return who draws: a cluster, else one device in this process or several in one process each.

    There are never more workers than batches, so that no device loads a model for nothing.

    Args:
        task: the model.
        requests: how many images are to be drawn.
        devices: as `choose_devices` takes them.
        cluster: Ray, if that is to draw; it gets no GPU for a model that uses none.
    """
    if cluster is not None:
        return replace(cluster, gpus=0) if task.spec.family in WITHOUT_GPU else cluster
    chosen = choose_devices(task.spec.family, devices)[: math.ceil(requests / task.batch_size)]
    return Here(chosen[0]) if len(chosen) == 1 else Processes(chosen)


def draw(task: DeviceTask, requests: Sequence[ImageRequest], executor: Executor) -> Generator[Result, None, None]:
    """Yield a result for each request, in any order.

    Args:
        task: the model, and all that is asked of it.
        requests: images that are missing.
        executor: who draws, see `choose_executor`. A request that it lost becomes a NoImage, which a rerun tries again.

    Raises:
        GenerationError: the model cannot be loaded.
        ClusterError: no worker is left that can go on, or Ray failed.
        ModelBroken: the model can draw no more; what it drew until then has been yielded.
        OSError: an image cannot be written (disk full).
    """
    # In this process all requests are one task, so that a batch is drawn while the one before is written.
    size = len(requests) if isinstance(executor, Here) else task.batch_size
    if isinstance(executor, Ray):
        size = executor.batch
    tasks = [requests[start : start + size] for start in range(0, len(requests), size)]
    with closing(executor.run(partial(load_worker, task), tasks)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Lost):
                yield from (NoImage(request=request, reason=outcome.reason) for request in outcome.task)
            else:
                yield from outcome.items
