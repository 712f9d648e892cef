"""What scores for a server: a student in this process, or one on each of several devices, in processes of their own.

Processes, since Python's own part of scoring would hold up threads. They are not those of `dyneval.work.executors`,
which hand whole tasks to workers and take whole results: here each pass is heard of as it ends, pairs that nobody waits
for any more are left behind in the middle of a batch, and what one student was asked for the others are told.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from dyneval.errors import CheckpointError, UserError
from dyneval.loaded_pairs import Pair, PassEnded
from dyneval.serve.batcher import Event, JudgeGone, ScoreStream
from dyneval.tokens import prompt_line

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from dyneval.scorer.scorer import Scorer

logger = logging.getLogger(__name__)

_MOST_TOGETHER = 32
"""Larger batches make the first one in them wait too long."""
_SIDE_BY_SIDE = 2
"""Batches at a time with an engine that has devices of its own: they are busy where one batch comes to its end."""
_LOOK = 0.05
"""Seconds between two looks whether someone still waits for a pair."""
_REMEMBERED = 10_000
"""Prompts whose questions the students tell each other."""
_ENDING = 10.0


@dataclass(frozen=True, slots=True)
class Judges:
    """What a server scores with."""

    streams: Sequence[ScoreStream]
    """Each scores a batch at a time."""
    most_together: int
    """Pairs of a batch."""
    about: dict[str, Any]
    """What /v1/model says of the student, which is the same for all."""
    close: Callable[[], None] = lambda: None

    @property
    def ask_once(self) -> bool:
        """Whether a prompt is left to the one that is being asked about it."""
        return len(self.streams) > 1 and self.about["settings"].get("mode") != "iqa-only"


def here(load: Callable[[], Scorer]) -> Judges:
    """One student in this process. Raises what `load` raises."""
    scorer = load()
    count = 1 if scorer.student.device is not None else _SIDE_BY_SIDE
    return Judges([scorer.score_stream] * count, min(scorer.most_together, _MOST_TOGETHER), _about(scorer))


def on_devices(load: Callable[[str], Scorer], devices: Sequence[str]) -> Judges:
    """A student on each device, which `load` loads there; both are pickled.

    Raises:
        CheckpointError: none could be loaded.
    """
    remembered: dict[str, Any] = {}
    processes = [_StudentProcess(load, device, remembered) for device in devices]
    ready = [one for one in processes if one.is_ready()]
    if not ready:
        raise CheckpointError(f"no student could be loaded: {'; '.join(one.trouble for one in processes)}")

    def close() -> None:
        for one in ready:
            one.close()

    most, about = ready[0].told
    return Judges([one.score_stream for one in ready], most, about, close)


def _about(scorer: Scorer) -> dict[str, Any]:
    return {
        "model": scorer.name,
        "revision": scorer.revision,
        "template": scorer.settings.template,
        "settings": scorer.shaping(),
        "questions": scorer.questions_digest,
        "demo": scorer.is_demo,
        "untrained": bool(scorer.student.processor.conventions.untrained),
    }


@dataclass(frozen=True, slots=True)
class _SentPair:
    """A pair on its way to a process."""

    pair_id: str
    prompt: str
    image_name: str
    file_hash: str | None
    size: tuple[int, int]
    pixels: bytes

    @classmethod
    def of(cls, pair: Pair) -> _SentPair:
        image = pair.image
        return cls(pair.pair_id, pair.prompt, pair.image_name, pair.file_hash, image.size, image.tobytes())

    def pair(self, is_wanted: Callable[[], bool]) -> Pair:
        return Pair(
            pair_id=self.pair_id,
            prompt=self.prompt,
            image=Image.frombytes("RGB", self.size, self.pixels),
            image_name=self.image_name,
            file_hash=self.file_hash,
            is_wanted=is_wanted,
        )


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
    """A student in a process of its own, which is started again where it ended."""

    def __init__(self, load: Callable[[str], Scorer], device: str, remembered: dict[str, Any]) -> None:
        self._load, self._device, self._remembered = load, device, remembered
        self.told: tuple[int, dict[str, Any]] = (0, {})
        self.trouble = ""
        self._begin()

    def _begin(self) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA once the parent has
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
            said = self._end()
        if isinstance(said, str):
            self.trouble = f"{self._device}: {said}"
            logger.error("%s", self.trouble)
            return False
        self.told = said
        return True

    def score_stream(self, pairs: Sequence[Pair]) -> Generator[tuple[int, Event], None, None]:
        """As `Scorer.score_stream`. Raises JudgeGone where the process ends."""
        if not self._process.is_alive():
            self._end()
            self._begin()
            if not self.is_ready():
                raise JudgeGone(self.trouble, is_final=True)
        self._unwanted[:] = [0] * _MOST_TOGETHER
        prompts = {prompt_line(pair.prompt) for pair in pairs}
        # Looked up once: another thread may forget one meanwhile.
        known = {prompt: asked for prompt in prompts if (asked := self._remembered.get(prompt))}
        try:
            self._pipe.send(([_SentPair.of(pair) for pair in pairs], known))
            try:
                yield from self._events(pairs)
            except GeneratorExit:
                self._unwanted[:] = [1] * _MOST_TOGETHER
                for _ in self._events(pairs):
                    pass
                raise
        except (EOFError, OSError):
            raise JudgeGone(f"the student on {self._device} died ({self._end()})") from None

    def _events(self, pairs: Sequence[Pair]) -> Generator[tuple[int, Event], None, None]:
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

    def _end(self) -> str:
        """End the process; returns how it ended."""
        self._pipe.close()  # one that waits for work ends by itself
        self._process.join(_ENDING)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return f"exit {self._process.exitcode}"

    def close(self) -> None:
        """End the process."""
        self._end()


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
                scorer.remember_questions(prompt, asked)
            pairs = [one.pair(partial(_is_wanted, unwanted, number)) for number, one in enumerate(sent)]
            pipe.send(_judged(scorer, pairs, pipe))


def _is_wanted(unwanted: Any, number: int) -> bool:
    return not unwanted[number]


def _judged(scorer: Scorer, pairs: Sequence[Pair], pipe: Connection) -> _BatchMessage:
    """Score a batch, telling each event; returns that it is over, or broken."""
    try:
        for number, event in scorer.score_stream(pairs):
            asked = None
            if isinstance(event, PassEnded) and event.name == "t2ia_questions":
                asked = scorer.remembered_questions(pairs[number].prompt)
            pipe.send(_BatchMessage(number, event, asked))
            if not any(pair.is_wanted() for pair in pairs):
                break
    except Exception:  # of the pipe too, where telling this will not do either
        return _BatchMessage(broken=traceback.format_exc())
    return _BatchMessage()


def all_gpus() -> list[str]:
    """The GPUs that are visible; CUDA_VISIBLE_DEVICES is respected."""
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
