"""Scoring on a Ray cluster, a student an actor: pairs go out with the keys of their records, outcomes come back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dyneval.scorer.run import Keep, Known, Outcome, Unreadable, score_changed
from dyneval.scorer.scorer import Scorer
from dyneval.scorer.table import Wanted
from dyneval.work.executors import Lost, Ray


@dataclass(frozen=True, slots=True)
class _Portion:
    wanted: list[Wanted]
    known: dict[str, str | None]


def score_on_ray(
    cluster: Ray, load: Callable[[], Scorer], root: Path, wanted: Sequence[Wanted], known: Known, keep: Keep
) -> list[str]:
    """Score where `run.score_changed` would in this process; returns the devices, one an actor.

    Raises:
        ClusterError: there is no cluster, or the student cannot be loaded there.
    """
    portions = []
    for start in range(0, len(wanted), cluster.batch):
        part = list(wanted[start : start + cluster.batch])
        portions.append(_Portion(part, {one.pair_id: known(one.pair_id) for one in part}))
    for found in cluster.run(partial(_Judge, load, root), portions):
        if isinstance(found, Lost):
            outcomes = [Unreadable(one.pair_id, found.reason) for one in found.task.wanted]
        for outcome in outcomes if isinstance(found, Lost) else found.items:
            keep(outcome)
    return cluster.devices


class _Judge:
    """A student in an actor."""

    def __init__(self, load: Callable[[], Scorer], root: Path, device: str) -> None:
        self.scorer = load()
        self.root = root

    def close(self) -> None:
        pass

    def work(self, portion: _Portion) -> Generator[Outcome, None, None]:
        outcomes: list[Outcome] = []
        score_changed(self.scorer, portion.wanted, self.root, portion.known.get, outcomes.append)
        yield from outcomes
