"""Step 2 on a Ray cluster, a pool of actors a model: images go to the folder, which all see, records come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from dyneval.errors import ClusterError, GenerationError
from dyneval.generation.engine import Emit, Result
from dyneval.generation.model import ModelBroken, NotMade, Request
from dyneval.generation.workers import Job
from dyneval.work.cluster import Cluster
from dyneval.work.executors import Lost, run_tasks

WITHOUT_GPU = ("demo", "hosted")
"""Families that draw on the CPU, or elsewhere."""


def devices_of(cluster: Cluster, family: str) -> list[str]:
    """The device of each actor."""
    return ["cpu" if family in WITHOUT_GPU or not cluster.gpus else "cuda:0"] * cluster.actors


def draw(cluster: Cluster, job: Job, requests: Sequence[Request], emit: Emit) -> None:
    """Hand a result for each request to `emit`, as `workers.draw` does.

    Raises:
        GenerationError: the model cannot be loaded, or there is no cluster.
        ModelBroken: the model can draw no more.
    """
    device = devices_of(cluster, job.entry.family)[0]
    job = replace(job, root=job.root.resolve())  # the other machines have another current folder
    cluster = replace(cluster, gpus=cluster.gpus if device != "cpu" else 0)
    tasks = [list(requests[start : start + cluster.batch]) for start in range(0, len(requests), cluster.batch)]
    try:
        for drawn in run_tasks(cluster, partial(_Painter, job, device), tasks):
            if isinstance(drawn, Lost):
                drawn = _Drawn([NotMade(request=request, reason=drawn.reason) for request in drawn.task])
            for result in drawn.results:
                emit(result)
            if drawn.broken:
                raise ModelBroken(drawn.broken)
    except ClusterError as error:
        raise GenerationError(str(error)) from error


@dataclass(slots=True)
class _Drawn:
    results: list[Result]
    broken: str | None = None


class _Painter:
    """A loaded model in an actor."""

    def __init__(self, job: Job, device: str) -> None:
        self.engine = job.engine(device)

    def __call__(self, requests: list[Request]) -> _Drawn:
        drawn = _Drawn([])
        try:
            self.engine.run(requests, drawn.results.append)
        except ModelBroken as error:
            drawn.broken = str(error)
        return drawn
