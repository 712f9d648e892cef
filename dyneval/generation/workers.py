"""Drawing with one model: what its workers need, and which requests go to which executor."""

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
        root: the folder of images, by a path that holds on every machine.
        settings: what is asked of the model, as recorded with each image.
        recorded: settings of an image that is already there, empty when there is none.
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
        """Images that are drawn together."""
        return (self.run.batch_size or self.spec.batch_size) if self.spec.batches else 1

    def engine(self, device: str) -> DrawingLoop:
        """Load the model. Raises GenerationError when it cannot be loaded, or is not what was used so far."""
        spec = self.spec
        if missing := spec.missing_packages():
            raise GenerationError(f"{spec.slug} needs {' and '.join(missing)}; run: {install_command(missing)}")
        model = spec.build(self.build, self.run, device)
        for name in ("revision", "dtype"):
            before, now = self.recorded.get(name), model.facts.get(name)
            if before and before != now:
                model.close()
                raise GenerationError(
                    f"{spec.slug}: the images in {self.root} were made with {name} {before}, here it is {now}. "
                    "Draw with what it was (--revision; a CPU runs in float32), or choose another --output."
                )
        return DrawingLoop(
            model=model,
            slug=spec.slug,
            root=self.root,
            settings=self.settings,
            image_format=self.image_format,
            batch_size=(self.run.batch_size or model.batch_size) if spec.batches else 1,
        )


class DrawingWorker:
    """A loaded model: the worker of Step 2, see `dyneval.work.executors`."""

    def __init__(self, task: DeviceTask, device: str) -> None:
        self._engine = task.engine(device)

    def work(self, requests: Sequence[ImageRequest]) -> Generator[Result, None, None]:
        """Yield a result for each request, as `DrawingLoop.run`."""
        yield from self._engine.run(requests)

    def close(self) -> None:
        """Free the device."""
        self._engine.model.close()


def choose_executor(
    task: DeviceTask, requests: int, devices: Sequence[str] = (), cluster: Ray | None = None
) -> Executor:
    """Who draws so many requests: a cluster, else one device in this process or several in one each.

    There are never more workers than batches.
    """
    if cluster is not None:
        return replace(cluster, gpus=0) if task.spec.family in WITHOUT_GPU else cluster
    chosen = choose_devices(task.spec.family, devices)[: math.ceil(requests / task.batch_size)]
    return Here(chosen[0]) if len(chosen) == 1 else Processes(chosen)


def draw(task: DeviceTask, requests: Sequence[ImageRequest], executor: Executor) -> Generator[Result, None, None]:
    """Yield a result for each request, in any order.

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
    with closing(executor.run(partial(DrawingWorker, task), tasks)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Lost):
                yield from (NoImage(request=request, reason=outcome.reason) for request in outcome.task)
            else:
                yield from outcome.items
