"""Counts over the kept pairs: questions a pair, scores, yes and no, tokens. Added up over chunks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyneval.instruct.annotations import AnnotatedPair
from dyneval.records import IQAAnswer
from dyneval.structs import Row


class Observations(defaultdict[str, list[Any]]):
    """Values seen on kept pairs, by histogram, to be counted together: to begin counting takes longer than to count."""

    def __init__(self) -> None:
        super().__init__(list)

    def add(self, item: AnnotatedPair, overall: float | None, tokens: Sequence[int]) -> None:
        """Look at one kept pair and its S, at what it has of the four annotations, and the tokens of its samples."""
        if item.t2ia_answers is not None:
            answers = item.t2ia_answers.answers
            self["t2ia_questions"].append(len(answers))
            self["t2ia_targets"] += [answer.target_answer for answer in answers]
            self["t2ia_scores"] += [answer.score for answer in answers]
        if item.iqa_answers is not None:
            judged = item.iqa_answers.answers
            self["iqa_questions"].append(len(judged))
            self["iqa_targets"] += [answer.target_answer for answer in judged]
            self["iqa_scores"] += _ratings(judged)
        if item.iqa_questions is not None:
            self["nodes"].append(item.iqa_questions.nodes)
        if overall is not None:
            self["overall"].append(round(overall, 1))
        rows = (item.iqa_answers, item.t2ia_answers, item.iqa_questions, item.t2ia_questions)
        origin = next(row.provenance for row in rows if row is not None)
        self["teachers"].append(f"{origin.engine}: {origin.model}")
        if tokens:
            self["tokens"] += [count // 100 * 100 for count in tokens]


def _ratings(answers: Sequence[IQAAnswer]) -> list[int]:
    scores = [answer.score for answer in answers if answer.score is not None]
    if len(scores) == len(answers):
        return scores
    return [rating for answer in answers if (rating := answer.rating) is not None]


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

    def to_dict(self) -> dict[str, Row]:
        """All histograms, sorted by value, with their number and mean where values are numbers."""
        return {name: _described(getattr(self, name)) for name in self.__dataclass_fields__}


def _described(counts: Counter[Any]) -> Row:
    histogram = {str(value): counts[value] for value in sorted(counts)}
    mean = _mean(counts.items()) if counts and not any(isinstance(value, str) for value in counts) else None
    return {"count": counts.total(), **({"mean": mean} if mean is not None else {}), "histogram": histogram}


def _mean(items: Iterable[tuple[float, int]]) -> float:
    pairs = list(items)
    return round(sum(value * number for value, number in pairs) / sum(number for _, number in pairs), 3)
