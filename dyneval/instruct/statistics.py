"""Counts over the kept pairs: questions a pair, scores, yes and no, tokens. Added up over chunks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from dyneval.instruct.annotations import AnnotatedPair
from dyneval.instruct.rows import IQAAnswersRow, T2IAAnswersRow


class Observations(defaultdict[str, list[Any]]):
    """Values seen on kept pairs, by histogram, to be counted together: to begin counting takes longer than to count."""

    def __init__(self) -> None:
        super().__init__(list)

    def add(self, item: AnnotatedPair, tokens: Sequence[int] = ()) -> None:
        """Look at one kept pair, at what it has of the four annotations; `tokens` of its samples, where counted."""
        if item.t2ia_answers is not None:
            self._add_answers("t2ia", item.t2ia_answers)
            self["t2ia_scores"] += [answer.score for answer in item.t2ia_answers.answers]
        if item.iqa_answers is not None:
            self._add_answers("iqa", item.iqa_answers)
            self["iqa_scores"] += _ratings(item.iqa_answers)
        if item.iqa_questions is not None:
            self["nodes"].append(_node_count(item.iqa_questions.scene_graph))
        overall = item.overall
        if overall is not None:
            self["overall"].append(round(overall, 1))
        rows = (item.iqa_answers, item.t2ia_answers, item.iqa_questions, item.t2ia_questions)
        origin = next(row.provenance for row in rows if row is not None)
        self["teachers"].append(f"{origin.engine}: {origin.model}")
        self["tokens"] += [count // 100 * 100 for count in tokens]

    def _add_answers(self, name: str, row: T2IAAnswersRow | IQAAnswersRow) -> None:
        self[f"{name}_questions"].append(len(row.answers))
        self[f"{name}_targets"] += [answer.target_answer for answer in row.answers]


def _ratings(row: IQAAnswersRow) -> list[int]:
    scores = [answer.score for answer in row.answers if answer.score is not UNSET]
    if len(scores) == len(row.answers):
        return scores
    return [rating for answer in row.answers if (rating := answer.rating) is not None]


def _node_count(graph: dict[str, Any] | list[Any]) -> int:
    """Nodes of a scene graph; a bare list is taken for the list of nodes."""
    nodes = graph.get("nodes") if isinstance(graph, dict) else graph
    return len(nodes) if isinstance(nodes, list) else 0


@dataclass(kw_only=True, slots=True)
class Statistics:
    """Histograms: value -> number of pairs (questions, pair scores), of answers (scores) or of samples (tokens)."""

    t2ia_questions: Counter[int] = field(default_factory=Counter)
    """Alignment and distortion questions a pair."""
    iqa_questions: Counter[int] = field(default_factory=Counter)
    """Quality questions a pair."""
    t2ia_scores: Counter[int] = field(default_factory=Counter)
    """Scores of single T2IA answers."""
    iqa_scores: Counter[int] = field(default_factory=Counter)
    """Scores of single IQA answers; of published ones, which have none, 5 where they are correct and else 1."""
    overall: Counter[float] = field(default_factory=Counter)
    """S = 0.5 T2IA + 0.5 IQA of a pair, or the half that is there, rounded to tenths."""
    t2ia_targets: Counter[str] = field(default_factory=Counter)
    """Target answers of T2IA questions, a pair."""
    iqa_targets: Counter[str] = field(default_factory=Counter)
    """Target answers of IQA questions."""
    teachers: Counter[str] = field(default_factory=Counter)
    """Engine and model that answered for a pair."""
    nodes: Counter[int] = field(default_factory=Counter)
    """Nodes of a scene graph."""
    tokens: Counter[int] = field(default_factory=Counter)
    """Tokens of a sample, in hundreds, where they are counted."""

    def count(self, observed: Observations) -> None:
        """Count what has been observed."""
        for name, values in observed.items():
            getattr(self, name).update(values)

    def merge(self, other: Statistics) -> None:
        """Add the counts of another part."""
        for name in self.__dataclass_fields__:
            getattr(self, name).update(getattr(other, name))

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All histograms, sorted by value, with their number and mean where values are numbers."""
        return {name: _described(getattr(self, name)) for name in self.__dataclass_fields__}


def _described(counts: Counter[Any]) -> dict[str, Any]:
    histogram = {str(value): counts[value] for value in sorted(counts)}
    mean = _mean(counts.items()) if counts and not any(isinstance(value, str) for value in counts) else None
    return {"count": counts.total(), **({"mean": mean} if mean is not None else {}), "histogram": histogram}


def _mean(items: Iterable[tuple[float, int]]) -> float:
    pairs = list(items)
    return round(sum(value * number for value, number in pairs) / sum(number for _, number in pairs), 3)
