"""Where tasks are done: here, in a process a device, or by actors on a Ray cluster. Light: imported by `--help`.

A step says how a `Worker` is made and cuts its work into tasks; any of the three executors does them:

    executor = Here("cuda:0")                                # in this process, results one by one
    executor = Processes(("cuda:0", "cuda:1"))               # a process each; tasks go to whichever is free
    executor = Ray(address="ray-head:6379", actors=8, gpus=1)
    with closing(executor.run(make_worker, tasks)) as outcomes:
        for outcome in outcomes: ...                         # Done or Lost

The caller is the one writer of a step's files: a worker gets a task, works, and what it yields comes back here. So
there is nothing to join or to lock, no record can stand twice, and a worker or machine that is lost takes only the task
that it was at with it. What has not come back when the caller dies is asked for again by the next run.

`dyneval.instruct.parallel` is not among them: its chunks must come in order, its processes are forked to share an index
that is read once (a process that uses CUDA cannot be forked, so `Processes` starts new ones), and its 2 GB of samples
travel in shared memory, which saves a tenth of a build. It has no device to lose, and so nothing to hand on.
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
"""A task whose Ray actor has died so often more is given up: most likely it is the task that kills it."""


class WorkerBroken(RuntimeError):
    """The worker can do no further task (dead device, rejected key); the task that it had is not to blame."""


class Worker(Protocol[TaskIn, ItemOut]):
    """Does tasks, one after the other; what is loaded for them is loaded when the worker is made."""

    def work(self, task: TaskIn) -> Generator[ItemOut, None, None]:
        """Yield what comes of a task, as it comes. Raises WorkerBroken, or whatever went wrong."""
        ...

    def close(self) -> None:
        """Free what the worker holds."""
        ...


MakeWorker = Callable[[str], Worker[Task, Item]]
"""Makes a worker for a device ("cuda:0", "cpu"), in the process where it works; pickled where that is another one."""


@dataclass(frozen=True, slots=True)
class Done(Generic[Task, Item]):
    """A task and what its worker yielded. `Here` hands the items on as they come: take them before the next outcome."""

    task: Task
    items: Iterable[Item]


@dataclass(frozen=True, slots=True)
class Lost(Generic[Task]):
    """A task that gave no result: the workers that worked at it died."""

    task: Task
    reason: str


@dataclass(frozen=True, slots=True)
class Here:
    """One worker in this process. What it raises is raised here, after the items that came before."""

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
    """A worker a device, each in a process of its own; a task goes to whichever is free.

    CUDA_VISIBLE_DEVICES is read, through the library that counts the devices, and never written.
    """

    devices: Sequence[str]

    def run(
        self, make_worker: MakeWorker[Task, Item], tasks: Iterable[Task]
    ) -> Generator[Done[Task, Item] | Lost[Task], None, None]:
        """Yield each task with its items when all of them are there, in any order; there is no worker without a task.

        The task of a worker that died, or whose code raised, goes to another one, once; then it is lost. That of a
        worker that raised WorkerBroken or found the disk full goes to others as long as there are some.

        Raises:
            ClusterError: tasks are left and no worker is.
        """
        work = _TaskQueue(deque(enumerate(tasks)))
        pool = _WorkerPool(make_worker, self.devices[: len(work.todo)])
        with closing(pool):
            while pool.workers:
                for worker in pool.idle():
                    worker.take(work.todo)
                if not work.todo and not any(worker.holding for worker in pool.workers):
                    break
                for worker, said in pool.hear():
                    held, worker.holding = worker.holding, None
                    worker.is_ready = True
                    if said.broken:
                        pool.end(worker)
                        yield from work.hand_on(held, said)
                    elif held:
                        yield Done(held[1], said.items)
        if work.todo:
            raise ClusterError(f"no worker is left: {'; '.join(work.trouble)}")


Numbered = tuple[int, Any]
"""A task and its number, by which it is known when it comes back."""


@dataclass(slots=True)
class _WorkerMessage:
    """What a process says: what came of its task, or, before the first one, that it is ready."""

    items: list[Any] = field(default_factory=list)
    broken: str = ""
    """Why it can take no more."""
    blameless: bool = False
    """Whether it is broken for a reason that has nothing to do with the task."""


@dataclass(slots=True)
class _TaskQueue:
    """Tasks that are still to be done, and what became of workers."""

    todo: deque[Numbered]
    lost_once: set[int] = field(default_factory=set)
    trouble: list[str] = field(default_factory=list)

    def hand_on(self, held: Numbered | None, said: _WorkerMessage) -> Iterator[Lost[Any]]:
        """Give what a worker held to another, but not what has already been lost once: it may be the cause."""
        logger.error("%s", said.broken)
        self.trouble.append(said.broken)
        if held is None:
            return
        number, task = held
        if said.blameless:
            self.todo.appendleft(held)
        elif number in self.lost_once:
            yield Lost(task, f"{said.broken}, for the second time with this task")
        else:
            self.lost_once.add(number)
            self.todo.append(held)


@dataclass(slots=True, eq=False)
class _WorkerProcess:
    device: str
    process: BaseProcess
    pipe: Connection
    is_ready: bool = False
    holding: Numbered | None = None

    def take(self, todo: deque[Numbered]) -> None:
        if not todo:
            return
        self.holding = todo.popleft()
        try:
            self.pipe.send(self.holding[1])
        except OSError:
            logger.warning("the worker on %s is gone before its next task", self.device)  # its pipe's end is heard next


class _WorkerPool:
    """Processes at work; the parent owns the tasks, so one that dies takes nothing with it."""

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

    def idle(self) -> list[_WorkerProcess]:
        return [worker for worker in self.workers if worker.is_ready and not worker.holding]

    def hear(self) -> Iterator[tuple[_WorkerProcess, _WorkerMessage]]:
        """Wait until one of them says something, or is gone; yield what all say by then."""
        from multiprocessing.connection import wait

        speaking = wait([worker.pipe for worker in self.workers])
        for worker in [worker for worker in self.workers if worker.pipe in speaking]:
            try:
                said = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join(5)
                said = _WorkerMessage(broken=f"the worker on {worker.device} died (exit {worker.process.exitcode})")
            yield worker, said

    def end(self, worker: _WorkerProcess) -> None:
        self.workers.remove(worker)
        worker.pipe.close()  # a worker that waits for work ends by itself
        worker.process.join(10)
        if worker.process.is_alive():
            worker.process.terminate()

    def close(self) -> None:
        for worker in self.workers:
            worker.pipe.close()
        for worker in list(self.workers):
            self.end(worker)


def _serve(pipe: Connection, make_worker: MakeWorker[Any, Any], device: str) -> None:
    """Body of a process: make the worker, then do task after task until the parent closes the pipe."""
    import multiprocessing
    import signal

    from dyneval.work.processes import end_with_parent
    from dyneval.work.progress import log_to_stderr

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then closes the pipe
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)  # it would notice only after its task, with the device held and files still written
    log_to_stderr(f"[{device}] %(message)s", logging.INFO)
    with suppress(EOFError, ConnectionError):  # the parent has no more work, or is gone
        try:
            worker = make_worker(device)
        except Exception as error:  # the parent reports it; other devices may do
            pipe.send(_WorkerMessage(broken=f"{device}: {error}", blameless=True))
            return
        with closing(worker):
            said = _WorkerMessage()
            pipe.send(said)
            while not said.broken:
                said = _attempt(worker, pipe.recv(), device)
                pipe.send(said)


def _attempt(worker: Worker[Any, Any], task: Any, device: str) -> _WorkerMessage:
    try:
        return _WorkerMessage(list(worker.work(task)))
    except (WorkerBroken, OSError) as error:  # OSError: a file cannot be written (disk full)
        return _WorkerMessage(broken=f"{device}: {error}", blameless=True)
    except Exception as error:
        logger.exception("a task failed")
        return _WorkerMessage(broken=f"the worker on {device} failed ({_told(error)})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ray:
    """A pool of actors on a Ray cluster: Ray Data schedules, restarts and does again; nothing here does.

    Attributes:
        address: of a running cluster; "" finds one (RAY_ADDRESS, or one on this machine) or starts one here.
        actors: how many actors; each makes its own worker.
        gpus: GPUs that Ray reserves for each actor.
        batch: items that a step puts into a task; the task of an actor that dies is done again from its beginning.
    """

    address: str = ""
    actors: int = 1
    gpus: float = 0
    batch: int = 16

    @property
    def device(self) -> str:
        """The device of a worker, as it sees it."""
        return "cuda:0" if self.gpus else "cpu"

    @property
    def devices(self) -> list[str]:
        """The devices of the workers, for people and for the planner: "cuda:0 x 2" is two GPUs, "cuda:0 x 0.5" half."""
        share = "" if self.gpus in (0, 1) else f" x {self.gpus:g}"
        return [self.device + share] * self.actors

    def run(
        self, make_worker: MakeWorker[Task, Item], tasks: Iterable[Task]
    ) -> Generator[Done[Task, Item] | Lost[Task], None, None]:
        """Yield each task with its items when all of them are there, in any order. All that travels is pickled.

        Raises:
            ClusterError: Ray is missing, the cluster cannot be reached, or a worker raised: the task would raise
                elsewhere too. What came before has been yielded, items of that task among it.
        """
        import pickle

        waiting = dict(enumerate(tasks))
        if not waiting:
            return
        with _connected(self.address) as ray:
            try:
                for row in self._dataset(ray, make_worker, waiting).iter_rows():
                    task, items = waiting.pop(row["number"]), pickle.loads(row["items"])
                    if items or not row["error"]:
                        yield Done(task, items)
                    if row["error"]:
                        raise ClusterError(row["error"])
            except ray.exceptions.RayError as error:
                raise ClusterError(f"the Ray cluster failed: {_last_line(error)}") from error
        for task in waiting.values():
            yield Lost(task, f"its worker died {RETRIES + 1} times")

    def _dataset(self, ray: Any, make_worker: MakeWorker[Any, Any], tasks: dict[int, Any]) -> Any:
        import pickle

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the step has its own
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # one task that kills its workers is no reason to stop: see Lost
        rows = [{"number": number, "task": pickle.dumps(task)} for number, task in tasks.items()]
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,
            fn_constructor_args=(make_worker, self.device),
            # One task at a time: those that wait behind a task that kills its actor would use up their retries with it.
            compute=ray.data.ActorPoolStrategy(size=min(self.actors, len(rows)), max_tasks_in_flight_per_actor=1),
            num_gpus=self.gpus,
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )


class _Actor:
    """Lives in a process of its own; the worker is made with the first task, so that a failure can be told."""

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
        except Exception as raised:  # told by the driver in one line; Ray would wrap it in a page of its own frames
            error = _told(raised)
        return {"number": row["number"], "items": pickle.dumps(items), "error": error}


def _told(error: Exception) -> str:
    """One line about an error; what is made for users needs no name of a class in front."""
    return str(error) if isinstance(error, UserError | WorkerBroken) else f"{type(error).__name__}: {error}"


def _last_line(error: Exception) -> str:
    """Last line of what Ray says: the others are its own frames."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


@contextmanager
def _connected(address: str) -> Iterator[Any]:
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
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # ConnectionError, ValueError, and a bare Exception when a machine's start times out
        raise ClusterError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        logger.info("Ray: %s", ", ".join(f"{count:g} {name}" for name, count in _resources(ray)))
        yield ray
    finally:
        ray.shutdown()


def _resources(ray: Any) -> list[tuple[str, float]]:
    found = ray.cluster_resources()
    return [(name, found[name]) for name in ("CPU", "GPU") if name in found]


Executor = Here | Processes | Ray


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterOptions:
    """Flags of a step that runs on Ray."""

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
        """The cluster, None without --ray."""
        if self.address is None:
            return None
        return Ray(address=self.address, actors=self.actors, gpus=self.gpus, batch=self.batch)
