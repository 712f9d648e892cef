"""What scores for a server: a student in this process, or one on each of several devices, in processes of their own.

With threads in place of processes the students would wait for each other, since the part of scoring that is Python runs
in one thread at a time. The processes are not those of `dyneval.work.executors`, which hand whole tasks to workers and
take whole results. Here each pass is told as it ends, pairs that nobody waits for any more are left behind within a
batch, and what one student was asked the others are told. A process that dies is started again while the others go on;
its batch goes to another one.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dyneval.errors import CheckpointError, UserError
from dyneval.loaded_pairs import LoadedPair, PassEnded, always_wanted
from dyneval.serve.batcher import Event, JudgeGone, JudgeLost, ScoreStream
from dyneval.tokens import prompt_line

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from dyneval.scorer.scorer import Scorer

logger = logging.getLogger(__name__)

_MOST_TOGETHER = 32
"""Pairs of a batch at most: larger ones make the first pair in them wait too long."""
# Towards the end of a batch few pairs of it are left, and an engine that has devices of its own would be idle.
_SIDE_BY_SIDE = 2
"""Batches at a time with such an engine."""
_LOOK = 0.05
"""Seconds between two looks whether someone still waits for a pair."""
_REMEMBERED = 10_000
"""Prompts whose questions the students tell each other; the oldest are forgotten."""
_ENDING = 10.0
"""Seconds that a process gets to end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class Judges:
    """What a server scores with."""

    streams: Sequence[ScoreStream]
    """Each scores a batch at a time, in whatever thread calls it."""
    most_together: int
    """Pairs of a batch."""
    about: dict[str, Any]
    """What /v1/model says of the student, which is the same for all."""
    close: Callable[[], None] = lambda: None
    """Ends the processes of the students."""

    @property
    def ask_once(self) -> bool:
        """Whether a prompt is left to the student that is being asked about it, see `Batcher`."""
        return len(self.streams) > 1 and self.about["settings"].get("mode") != "iqa-only"


def here(load: Callable[[], Scorer]) -> Judges:
    """Load one student in this process. Raises what `load` raises."""
    scorer = load()
    count = 1 if scorer.student.device is not None else _SIDE_BY_SIDE
    return Judges([scorer.score_stream] * count, min(scorer.most_together, _MOST_TOGETHER), _about(scorer))


def on_devices(load: Callable[[str], Scorer], devices: Sequence[str]) -> Judges:
    """Start a process with a student on each device, and wait until all are loaded.

    Args:
        load: loads the student on the device that it is given; it is pickled on its way to the process.
        devices: names of torch devices.

    Returns:
        The students that could be loaded; what became of the others is in the log.

    Raises:
        CheckpointError: none could be loaded.
    """
    remembered: dict[str, Any] = {}
    # All are started before any is waited for: they load side by side.
    processes = [_StudentProcess(load, device, remembered) for device in devices]
    ready = [one for one in processes if one.is_ready()]
    if not ready:
        raise CheckpointError(f"no student could be loaded: {'; '.join(one.trouble for one in processes)}")
    ending = ExitStack()
    for one in ready:
        ending.callback(one.end)
    most, about = ready[0].told
    return Judges([one.score_stream for one in ready], most, about, ending.close)


def _about(scorer: Scorer) -> dict[str, Any]:
    """Return what /v1/model says of a student."""
    return {
        "model": scorer.name,
        "revision": scorer.revision,
        "template": scorer.settings.template,
        "settings": scorer.score_settings(),
        "questions": scorer.questions_digest,
        "demo": scorer.is_demo,
        "untrained": bool(scorer.student.processor.conventions.untrained),
    }


@dataclass(frozen=True, slots=True)
class _BatchMessage:
    """What a process says of a batch: one event after the other, then that it is over."""

    number: int = 0
    event: Event | None = None
    asked: Any = None
    """Questions of the pair's prompt, as its student remembers them."""
    broken: str = ""
    """The traceback, where it broke on the batch."""


class _StudentProcess:
    """A student in a process of its own, which is started again where it ended.

    Attributes:
        told: pairs of a batch, and what /v1/model says of the student; known when it `is_ready`.
        trouble: why it could not be loaded.
    """

    def __init__(self, load: Callable[[str], Scorer], device: str, remembered: dict[str, Any]) -> None:
        """Start the process.

        Args:
            load: loads the student.
            device: where.
            remembered: questions by prompt that any of the students was asked for; shared by all of them.
        """
        self._load, self._device, self._remembered = load, device, remembered
        self.told: tuple[int, dict[str, Any]] = (0, {})
        self.trouble = ""
        self._begin()

    def _begin(self) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA once the parent has
        # Shared memory, a byte a pair of the batch: 1 where nobody waits for it any more. The process looks at it
        # between passes; a message would have to wait until the process reads its pipe, which it does after the batch.
        self._unwanted = context.RawArray("b", _MOST_TOGETHER)
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._load, self._device, self._unwanted)
        self._process = context.Process(target=_serve, args=arguments, daemon=True, name=f"judge-{self._device}")
        self._process.start()
        theirs.close()  # so that the death of the process ends the pipe

    def is_ready(self) -> bool:
        """Wait until the student is loaded; False where it cannot be, for the reason `trouble`."""
        try:
            said = self._pipe.recv()
        except (EOFError, OSError):
            said = self.end()
        if isinstance(said, str):
            self.trouble = f"{self._device}: {said}"
            logger.error("%s", self.trouble)
            return False
        self.told = said
        return True

    def score_stream(self, pairs: Sequence[LoadedPair]) -> Generator[tuple[int, Event], None, None]:
        """Score a batch, as `Scorer.score_stream` does. A process that has ended meanwhile is started again.

        Raises:
            JudgeGone: the process ended.
            JudgeLost: it ended before, and its student cannot be loaded again.
            RuntimeError: the student broke on the batch.
        """
        if not self._process.is_alive():
            self.end()
            self._begin()
            if not self.is_ready():
                raise JudgeLost(self.trouble)
        self._unwanted[:] = [0] * _MOST_TOGETHER
        prompts = {prompt_line(pair.prompt) for pair in pairs}
        # Looked up once: another thread may forget one meanwhile.
        known = {prompt: asked for prompt in prompts if (asked := self._remembered.get(prompt))}
        try:
            # Pairs of the queue ask their future whether they are wanted, which cannot be pickled.
            self._pipe.send(([replace(pair, is_wanted=always_wanted) for pair in pairs], known))
            try:
                yield from self._events(pairs)
            except GeneratorExit:
                # What the process still says of this batch must be read, or the next batch would take it for its own.
                self._unwanted[:] = [1] * _MOST_TOGETHER
                for _ in self._events(pairs):
                    pass
                raise
        except (EOFError, OSError):
            raise JudgeGone(f"the student on {self._device} died ({self.end()})") from None

    def _events(self, pairs: Sequence[LoadedPair]) -> Generator[tuple[int, Event], None, None]:
        """Yield what the process says of its batch, and tell it meanwhile which pairs nobody waits for any more."""
        while True:
            while not self._pipe.poll(_LOOK):
                for number, pair in enumerate(pairs):
                    if not pair.is_wanted():
                        self._unwanted[number] = 1
            said: _BatchMessage = self._pipe.recv()
            if said.broken:
                raise RuntimeError(f"on {self._device}: {said.broken}")
            if said.event is None:
                return
            if said.asked is not None:
                self._remembered[prompt_line(pairs[said.number].prompt)] = said.asked
                for oldest in list(self._remembered)[:-_REMEMBERED]:  # of a copy: other threads add to them
                    self._remembered.pop(oldest, None)
            yield said.number, said.event

    def end(self) -> str:
        """End the process; returns how it ended."""
        self._pipe.close()  # one that waits for work ends by itself
        self._process.join(_ENDING)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return f"exit {self._process.exitcode}"


def _serve(pipe: Connection, load: Callable[[str], Scorer], device: str, unwanted: Any) -> None:
    """Body of a process: load the student, then score batch after batch until the parent closes the pipe."""
    import multiprocessing
    import signal

    from dyneval.work.processes import end_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    end_with_parent(parent.pid)
    logging.basicConfig(level=logging.INFO, format=f"[{device}] %(message)s")
    with suppress(EOFError, OSError):
        try:
            scorer = load(device)
        except (UserError, OSError) as error:
            pipe.send(str(error))
            return
        pipe.send((min(scorer.most_together, _MOST_TOGETHER), _about(scorer)))
        while True:
            sent, known = pipe.recv()
            for prompt, asked in known.items():
                scorer.asked_questions[prompt] = asked
            # `number=number`: each of these functions keeps its own number, and not the last one of the loop.
            pairs = [
                replace(one, is_wanted=lambda number=number: not unwanted[number]) for number, one in enumerate(sent)
            ]
            pipe.send(_judged(scorer, pairs, pipe))


def _judged(scorer: Scorer, pairs: Sequence[LoadedPair], pipe: Connection) -> _BatchMessage:
    """Score a batch in its process, sending each event; returns the message that it is over, or how it broke."""
    try:
        for number, event in scorer.score_stream(pairs):
            asked = None
            if isinstance(event, PassEnded) and event.name == "t2ia_questions":
                asked = scorer.asked_questions.get(prompt_line(pairs[number].prompt))
            pipe.send(_BatchMessage(number, event, asked))
            if not any(pair.is_wanted() for pair in pairs):
                break
    except Exception:  # where the pipe is what broke, sending this message fails too, and the process ends
        return _BatchMessage(broken=traceback.format_exc())
    return _BatchMessage()


def all_gpus() -> list[str]:
    """Return the names of the visible GPUs, "cuda:0" and so on; CUDA_VISIBLE_DEVICES is respected."""
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
