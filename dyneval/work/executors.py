"""Tasks on a pool of Ray actors: Ray Data schedules, restarts and does again; nothing here does.

The driver is the one writer of a step's files, as without Ray: an actor gets a task, works, and sends back what it
found. So there is nothing to join or to lock, no record can stand twice, and a worker or machine that is lost takes
only the task that it was at with it. What has not come back when the driver dies is asked for again by the next run.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dyneval.errors import ClusterError
from dyneval.work.cluster import Cluster

logger = logging.getLogger(__name__)
Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 3
"""A task whose actor has died so often more is given up: most likely it is the task that kills it."""


@dataclass(frozen=True, slots=True)
class Lost(Generic[Task]):
    """A task that gave no result: every actor that worked at it died."""

    task: Task
    reason: str


def run_tasks(
    cluster: Cluster, make_worker: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task]
) -> Iterator[Result | Lost[Task]]:
    """Yield the result of each task as it comes, in any order.

    Args:
        cluster: how many actors there are, and what each gets.
        make_worker: called once in each actor, it loads the model and returns what does a task. It, the tasks and the
            results travel pickled.
        tasks: the work, in portions small enough to be done again.

    Raises:
        ClusterError: Ray is missing, the cluster cannot be reached, or a worker raised: the task would raise elsewhere
            too. Results that came before have been yielded.
    """
    if not tasks:
        return
    with _connected(cluster) as ray:
        waiting = dict(enumerate(tasks))
        try:
            for row in _dataset(ray, cluster, make_worker, tasks).iter_rows():
                if row["error"]:
                    raise ClusterError(row["error"])
                del waiting[row["number"]]
                yield pickle.loads(row["result"])
        except ray.exceptions.RayError as error:
            raise ClusterError(f"the Ray cluster failed: {_reason(error)}") from error
    for task in waiting.values():
        yield Lost(task, f"its worker died {RETRIES + 1} times")


def _dataset(ray: Any, cluster: Cluster, make_worker: Callable[[], Any], tasks: Sequence[Any]) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the step has its own
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # one task that kills its workers is no reason to stop: see Lost
    rows = [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)]
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Actor,
        fn_constructor_args=(make_worker,),
        # One task at a time: those that wait behind a task that kills its actor would use up their retries with it.
        compute=ray.data.ActorPoolStrategy(size=min(cluster.actors, len(rows)), max_tasks_in_flight_per_actor=1),
        num_gpus=cluster.gpus,
        num_cpus=1,
        max_restarts=-1,
        max_task_retries=RETRIES,
    )


class _Actor:
    """Lives in a process of its own; the model is loaded with the first task, so that a failure can be told."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self.make_worker = make_worker
        self.work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            self.work = self.work or self.make_worker()
            result = self.work(pickle.loads(row["task"]))
            return {"number": row["number"], "result": pickle.dumps(result), "error": ""}
        except Exception as error:  # told by the driver in one line; Ray would wrap it in a page of its own frames
            return {"number": row["number"], "result": b"", "error": f"{type(error).__name__}: {error}"}


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; disconnected at the end where it was not before."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ClusterError(f"--ray needs Ray: pip install 'dyneval[ray]' ({error})") from error
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here reports to nobody
    try:
        ray.init(address=cluster.address or None, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # ConnectionError, ValueError, and a bare Exception when a machine's start times out
        raise ClusterError(f"no Ray cluster at {cluster.address or 'this machine'}: {error}") from error
    try:
        logger.info("Ray: %s", ", ".join(f"{count:g} {name}" for name, count in _resources(ray)))
        yield ray
    finally:
        ray.shutdown()


def _resources(ray: Any) -> list[tuple[str, float]]:
    found = ray.cluster_resources()
    return [(name, found[name]) for name in ("CPU", "GPU") if name in found]


def _reason(error: Exception) -> str:
    """Last line of what Ray says: the others are its own frames."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
