"""Who scores for a reward: a student in this process or a server, by name, shared by all rewards and all threads.

Trainers make several rewards and call them from several threads. Without this module each reward would load a student
of its own, and two batches at a time might not fit into the memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Protocol
from weakref import WeakValueDictionary

from dyneval.checkpoints.names import DEFAULT
from dyneval.client import Client
from dyneval.loaded_pairs import Failure, LoadedPair
from dyneval.records import ScoreRecord

JUDGE = "DYNEVAL_JUDGE"
"""Environment variable with the address of a server or the name of a student, where no argument has it."""


class ScoresPairs(Protocol):
    """A `dyneval.Scorer` or a `dyneval.Client`."""

    def score_pairs(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """Yield one result a pair, in order."""


AnyJudge = ScoresPairs | str | os.PathLike[str]


@dataclass(slots=True)
class _PendingCall:
    """What one thread wants to have scored, and what came of it."""

    pairs: list[LoadedPair]
    results: list[ScoreRecord | Failure] = field(default_factory=list)
    error: BaseException | None = None
    is_done: bool = False


@dataclass(eq=False)
class SharedJudge:
    """A judge for many threads: it works for one at a time, and scores what the others wait for in the same batch.

    Trainers call from eight threads, or with one image a call; a student is fast with many images at once, and two
    batches beside each other may not fit into its memory.
    """

    judge: ScoresPairs
    """It need not be safe for threads."""
    _waiting: list[_PendingCall] = field(default_factory=list, init=False)
    # Two locks: while one thread has its turn at the judge, the others add their pairs to the list.
    _list: Lock = field(default_factory=Lock, init=False)
    _turn: Lock = field(default_factory=Lock, init=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedJudge:
        """Return itself: torchmetrics copies metrics, and the student of a copy would take its memory twice."""
        return self

    def score_pairs(self, pairs: Iterable[LoadedPair]) -> Iterator[ScoreRecord | Failure]:
        """Score pairs, together with those of the other threads that wait.

        Returns:
            One result a pair, in order.

        Raises:
            Exception: of the judge, in all threads whose pairs it was scoring.
        """
        own = _PendingCall(list(pairs))
        with self._list:
            self._waiting.append(own)
        with self._turn:
            # Whoever had the turn before may have scored our pairs with its own.
            if not own.is_done:
                with self._list:
                    calls, self._waiting = self._waiting, []
                self._score(calls)
        if own.error is not None:
            raise own.error
        return iter(own.results)

    def _score(self, calls: list[_PendingCall]) -> None:
        """Score the pairs of several threads at once, and hand out results, or the error."""
        try:
            results = iter(list(self.judge.score_pairs([pair for call in calls for pair in call.pairs])))
            for call in calls:
                call.results = [next(results) for _ in call.pairs]
        except BaseException as error:  # KeyboardInterrupt too: the other threads would wait for ever
            for call in calls:
                call.error = error
        for call in calls:
            call.is_done = True


_found: dict[tuple[str, str | None], ScoresPairs] = {}
"""By name and device; they live as long as the process."""
# By id, since a scorer need not be hashable. The entry holds its judge, so the id is not used again while it is there.
_given: WeakValueDictionary[int, SharedJudge] = WeakValueDictionary()
"""Those that were given as objects; they go with the last reward that uses them."""
_finding = Lock()


def find_judge(judge: AnyJudge | None = None, device: Any = None) -> ScoresPairs:
    """Find the judge that is meant, or make it.

    Args:
        judge: a scorer or a client; or the address of a `dyneval serve`, or what `Scorer.from_pretrained` takes: a
            student's name, its folder or its Hub repository. Of each name one judge is made in a process and device.
            None: the environment variable DYNEVAL_JUDGE, else the student that `Scorer.from_pretrained` has by default.
        device: torch device of a student in this process, or the number of a GPU; None: its own choice. A server has
            its own.

    Returns:
        A judge that is safe for many threads.

    Raises:
        ClientError: the address is no URL of a server.
        CheckpointError: there is no such student.
    """
    if judge is None:
        judge = os.environ.get(JUDGE) or None
    if judge is not None and not isinstance(judge, str | os.PathLike):
        if isinstance(judge, Client | SharedJudge):
            return judge
        with _finding:  # of two rewards with one scorer only one may work at a time
            return _given.setdefault(id(judge), SharedJudge(judge))
    # A path is a folder, also where it is called like a student.
    where = DEFAULT if judge is None else judge if isinstance(judge, str) else str(Path(judge).absolute())
    # Two names of one GPU, 0 and "cuda:0", are one judge. A server chooses its devices itself.
    is_address = where.startswith(("http://", "https://"))
    place = None if device is None or is_address else f"cuda:{device}" if isinstance(device, int) else str(device)
    with _finding:  # so that eight threads load one student
        if (where, place) not in _found:
            if is_address:
                _found[where, place] = Client(where)
            else:
                from dyneval.scorer import Scorer  # torch and transformers, which users of a server need not have

                _found[where, place] = SharedJudge(Scorer.from_pretrained(where, device=place))
        return _found[where, place]
