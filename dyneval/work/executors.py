"""Run tasks in this process (`Here`), in one process for each device (`Processes`), or on a Ray cluster (`Ray`).

A step says how a `Worker` is made for a device and cuts its work into tasks; any of the three executors does them. The
worker of this example doubles numbers:

    from contextlib import closing

    from dyneval.work.executors import Done, Here

    class Doubler:
        def work(self, task):
            yield 2 * task

        def close(self):
            pass

    with closing(Here("cpu").run(lambda device: Doubler(), [1, 2, 3])) as outcomes:
        for outcome in outcomes:
            print(list(outcome.items) if isinstance(outcome, Done) else outcome.reason)

The caller alone writes a step's files: what a worker yields comes back to it. So no two processes write to one file, no
record can stand there twice, and a worker that is lost loses only its current task. The next run does what has not come
back when the caller dies. Nothing heavy is imported at the top, since `--help` imports this module.

`dyneval.instruct.parallel` does without: its chunks must come in order, its processes are forked to share an index that
is read once (a process that uses CUDA cannot be forked, so `Processes` starts new ones), and its 2 GB of samples travel
in shared memory, which saves a tenth of a build. It has no device to lose, and so no task to give to another.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar

from dyneval.errors import ClusterError, UserError
from dyneval.flags import arg

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

logger = logging.getLogger(__name__)
Task = TypeVar("Task")
Item = TypeVar("Item")
TaskIn = TypeVar("TaskIn", contravariant=True)
ItemOut = TypeVar("ItemOut", covariant=True)

RETRIES = 3
"""How often Ray repeats a task whose actor has died. After that it is given up: probably the task kills the actor."""


class WorkerBroken(RuntimeError):
    """The worker can do no further task (dead device, rejected key); its current task is not the cause."""


class Worker(Protocol[TaskIn, ItemOut]):
    """Does tasks, one after the other; it loads its models when it is made."""

    def work(self, task: TaskIn) -> Generator[ItemOut, None, None]:
        """Yield the results of a task as they come. Raises WorkerBroken, or whatever went wrong."""
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


MakeWorker = Callable[[str], Worker[Task, Item]]
"""Makes a worker for a device ("cuda:0", "cpu"), in the process where it works; pickled where that is another one."""


@dataclass(frozen=True, slots=True)
class Done(Generic[Task, Item]):
    """A task and the items that its worker yielded.

    `Here` yields the items as they come: take them all before you ask for the next outcome.
    """

    task: Task
    items: Iterable[Item]


@dataclass(frozen=True, slots=True)
class Lost(Generic[Task]):
    """A task without a result, because the workers that had it died."""

    task: Task
    reason: str


@dataclass(frozen=True, slots=True)
class Here:
    """One worker in this process. What it raises is raised to the caller, after the items that came before."""

    device: str = "cpu"

    @property
    def devices(self) -> list[str]:
        """The devices of the workers."""
        return [self.device]

    def run(
        self, make_worker: MakeWorker[Task, Item], tasks: Iterable[Task]
    ) -> Generator[Done[Task, Item] | Lost[Task], None, None]:
        """Yield each task with its items, in order."""
        with closing(make_worker(self.device)) as worker:
            for task in tasks:
                with closing(worker.work(task)) as items:
                    yield Done(task, items)


@dataclass(frozen=True, slots=True)
class Processes:
    """A worker for each device, each in a process of its own; a task goes to any worker that is free.

    CUDA_VISIBLE_DEVICES is read, by the library that counts the devices, and never written.
    """

    devices: Sequence[str]

    def run(
        self, make_worker: MakeWorker[Task, Item], tasks: Iterable[Task]
    ) -> Generator[Done[Task, Item] | Lost[Task], None, None]:
        """Yield each task with its items when all of them are there, in any order.

        The task of a worker that died, or whose code raised, goes to another one, once; then it is lost. The task of a
        worker that raised WorkerBroken, or found the disk full, goes to others as long as there are some.

        Raises:
            ClusterError: tasks are left and no worker is.
        """
        queue = _TaskQueue(deque(enumerate(tasks)))
        # No more workers than tasks: each of them loads a model first.
        pool = _WorkerPool(make_worker, self.devices[: len(queue.todo)])
        with closing(pool):
            while pool.workers:
                for worker in pool.workers:
                    if not queue.todo or not worker.is_ready or worker.current:
                        continue
                    worker.current = queue.todo.popleft()
                    # A worker that is gone takes nothing; the next `wait` finds the end of its pipe.
                    with suppress(OSError):
                        worker.pipe.send(worker.current[1])
                if not queue.todo and not any(worker.current for worker in pool.workers):
                    break
                for worker, message in pool.wait():
                    current, worker.current = worker.current, None
                    worker.is_ready = True
                    if message.broken:
                        pool.end(worker)
                        yield from queue.return_task(current, message)
                    elif current:
                        yield Done(current[1], message.items)
        if queue.todo:
            raise ClusterError(f"no worker is left: {'; '.join(queue.errors)}")


Numbered = tuple[int, Any]
"""A task and its number, by which it is recognised when it comes back."""


@dataclass(slots=True)
class _WorkerMessage:
    """What a process reports: the items of its task or, before the first one, that it is ready."""

    items: list[Any] = field(default_factory=list)
    broken: str = ""
    """Why it can take no further task."""
    blameless: bool = False
    """Whether it is broken for a reason that has nothing to do with the task."""


@dataclass(slots=True)
class _TaskQueue:
    """Tasks that are still to be done, and the errors of workers."""

    todo: deque[Numbered]
    lost_once: set[int] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def return_task(self, current: Numbered | None, message: _WorkerMessage) -> Iterator[Lost[Any]]:
        """Put back the task of a worker that broke; one that was lost before is given up, since it may be the cause."""
        logger.error("%s", message.broken)
        self.errors.append(message.broken)
        if current is None:
            return
        number, task = current
        if message.blameless:
            self.todo.appendleft(current)
        elif number in self.lost_once:
            yield Lost(task, f"{message.broken}, for the second time with this task")
        else:
            # At the end: if the task does kill workers, all others are done before it kills the next one.
            self.lost_once.add(number)
            self.todo.append(current)


@dataclass(slots=True, eq=False)
class _WorkerProcess:
    device: str
    process: BaseProcess
    pipe: Connection
    is_ready: bool = False
    current: Numbered | None = None


class _WorkerPool:
    """The processes of the workers. The tasks stay with the parent, so a process that dies loses none."""

    def __init__(self, make_worker: MakeWorker[Any, Any], devices: Sequence[str]) -> None:
        import multiprocessing

        # spawn: a forked process cannot use CUDA once the parent has.
        context = multiprocessing.get_context("spawn")
        self.workers: list[_WorkerProcess] = []
        for device in devices:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make_worker, device), daemon=True)
            process.start()
            theirs.close()  # so that the death of the worker ends the pipe
            self.workers.append(_WorkerProcess(device, process, ours))

    def wait(self) -> Iterator[tuple[_WorkerProcess, _WorkerMessage]]:
        """Wait until a worker reports something or is gone; yield what all have reported by then."""
        from multiprocessing.connection import wait

        ready = wait([worker.pipe for worker in self.workers])
        for worker in [worker for worker in self.workers if worker.pipe in ready]:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join(5)
                message = _WorkerMessage(broken=f"the worker on {worker.device} died (exit {worker.process.exitcode})")
            yield worker, message

    def end(self, worker: _WorkerProcess) -> None:
        self.workers.remove(worker)
        worker.pipe.close()  # a worker that waits for work ends by itself
        worker.process.join(10)
        if worker.process.is_alive():
            worker.process.terminate()

    def close(self) -> None:
        # All pipes first, so that the workers end at the same time and not one after the other.
        for worker in self.workers:
            worker.pipe.close()
        for worker in list(self.workers):
            self.end(worker)


def _serve(pipe: Connection, make_worker: MakeWorker[Any, Any], device: str) -> None:
    """What the process of a worker runs: make the worker, then do tasks until the parent closes the pipe."""
    import multiprocessing
    import signal

    from dyneval.work.processes import end_with_parent
    from dyneval.work.progress import log_to_stderr

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then closes the pipe
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    # Without it, the worker of a killed parent would hold its device, and write files, until its task is over.
    end_with_parent(parent.pid)
    log_to_stderr(f"[{device}] %(message)s", logging.INFO)
    with suppress(EOFError, ConnectionError):  # the parent has no more work, or is gone
        try:
            worker = make_worker(device)
        except Exception as error:  # the parent reports it; other devices may do
            pipe.send(_WorkerMessage(broken=f"{device}: {error}", blameless=True))
            return
        with closing(worker):
            message = _WorkerMessage()
            pipe.send(message)
            while not message.broken:
                message = _attempt(worker, pipe.recv(), device)
                pipe.send(message)


def _attempt(worker: Worker[Any, Any], task: Any, device: str) -> _WorkerMessage:
    try:
        return _WorkerMessage(list(worker.work(task)))
    except (WorkerBroken, OSError) as error:  # OSError: a file cannot be written (disk full)
        return _WorkerMessage(broken=f"{device}: {error}", blameless=True)
    except Exception as error:
        logger.exception("a task failed")
        return _WorkerMessage(broken=f"the worker on {device} failed ({_one_line(error)})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ray:
    """A pool of actors on a Ray cluster. Ray Data schedules the tasks, restarts actors and repeats tasks.

    Attributes:
        address: of a running cluster; "" finds one (RAY_ADDRESS, or one on this machine) or starts one here.
        actors: how many actors; each makes its own worker.
        gpus: GPUs that Ray reserves for each actor; may be a fraction.
        batch: items that a step puts into a task. The task of an actor that dies is repeated from its beginning.
    """

    address: str = ""
    actors: int = 1
    gpus: float = 0
    batch: int = 16

    @property
    def device(self) -> str:
        """The device of a worker, as the worker sees it: Ray shows each actor only its own GPUs."""
        return "cuda:0" if self.gpus else "cpu"

    @property
    def devices(self) -> list[str]:
        """The device of each worker, for people and the planner: "cuda:0 x 2" is two GPUs, "cuda:0 x 0.5" half."""
        share = "" if self.gpus in (0, 1) else f" x {self.gpus:g}"
        return [self.device + share] * self.actors

    def run(
        self, make_worker: MakeWorker[Task, Item], tasks: Iterable[Task]
    ) -> Generator[Done[Task, Item] | Lost[Task], None, None]:
        """Yield each task with its items when all of them are there, in any order. All that travels is pickled.

        Raises:
            ClusterError: Ray is missing, the cluster cannot be reached, or a worker raised, which the task would do
                elsewhere too. All that came before is yielded first, also items of that task.
        """
        import pickle

        waiting = dict(enumerate(tasks))
        if not waiting:
            return
        with _connected(self.address) as ray:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False  # the step has its own
            context.print_on_execution_start = False
            context.max_errored_blocks = -1  # one task that kills its workers must not end the run: it becomes a Lost
            # Pickled here: Ray Data keeps rows in Arrow tables, which cannot hold every object as it is.
            rows = [{"number": number, "task": pickle.dumps(task)} for number, task in waiting.items()]
            # One task at a time: tasks that wait behind one that kills its actor would use up their retries with it.
            actors = ray.data.ActorPoolStrategy(size=min(self.actors, len(rows)), max_tasks_in_flight_per_actor=1)
            try:
                results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                    _Actor,
                    fn_constructor_args=(make_worker, self.device),
                    compute=actors,
                    num_gpus=self.gpus,
                    num_cpus=1,
                    max_restarts=-1,
                    max_task_retries=RETRIES,
                )
                for row in results.iter_rows():
                    task, items = waiting.pop(row["number"]), pickle.loads(row["items"])
                    if items or not row["error"]:
                        yield Done(task, items)
                    if row["error"]:
                        raise ClusterError(row["error"])
            except ray.exceptions.RayError as error:
                # The other lines are frames of Ray's own code.
                reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                raise ClusterError(f"the Ray cluster failed: {reason}") from error
        for task in waiting.values():
            yield Lost(task, f"its worker died {RETRIES + 1} times")


class _Actor:
    """A worker in a process of Ray. It is made with the first task, so that its failure can be reported as a result."""

    def __init__(self, make_worker: MakeWorker[Any, Any], device: str) -> None:
        self.make_worker = make_worker
        self.device = device
        self.worker: Worker[Any, Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import pickle

        items: list[Any] = []
        error = ""
        try:
            self.worker = self.worker or self.make_worker(self.device)
            items.extend(self.worker.work(pickle.loads(row["task"])))
        except Exception as raised:  # reported in one line by the caller; Ray would add a page of frames of its own
            error = _one_line(raised)
        return {"number": row["number"], "items": pickle.dumps(items), "error": error}


def _one_line(error: Exception) -> str:
    """An error in one line; messages that are made for users need no class name in front."""
    return str(error) if isinstance(error, UserError | WorkerBroken) else f"{type(error).__name__}: {error}"


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to Ray, and disconnect at the end unless it was connected before."""
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
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # ConnectionError, ValueError, and a bare Exception when a machine's start times out
        raise ClusterError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        logger.info("Ray: %s", ", ".join(f"{resources[name]:g} {name}" for name in ("CPU", "GPU") if name in resources))
        yield ray
    finally:
        ray.shutdown()


Executor = Here | Processes | Ray


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """Flags of a step that can run on Ray."""

    address: Annotated[
        str | None,
        arg(
            "work on a Ray cluster, such as ray-head:6379; without an address: the one at hand, else this machine",
            flag="ray",
            nargs="?",
            const="",
            metavar="ADDRESS",
            heading="Ray (extra ray; inputs and outputs lie where all machines see them under the same path)",
        ),
    ] = None
    actors: Annotated[int, arg("actors, each with a model", flag="ray-actors", metavar="N", ge=1)] = 1
    gpus: Annotated[float, arg("GPUs an actor", flag="ray-gpus", metavar="N", ge=0)] = 0
    batch: Annotated[int, arg("pairs or images a task", flag="ray-batch", metavar="N", ge=1)] = 64

    @property
    def ray(self) -> Ray | None:
        """The executor for these flags; None without --ray."""
        if self.address is None:
            return None
        return Ray(address=self.address, actors=self.actors, gpus=self.gpus, batch=self.batch)
