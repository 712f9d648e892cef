"""Counts over the kept pairs: questions a pair, scores, yes and no, tokens. Added up over chunks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dyneval.instruct.annotations import AnnotatedPair


class Observations(defaultdict[str, list[Any]]):
    """Values seen on kept pairs, by histogram, to be counted together: to begin counting takes longer than to count."""

    def __init__(self) -> None:
        super().__init__(list)

    def add(self, item: AnnotatedPair) -> None:
        """Look at one kept pair."""
        t2ia, iqa = item.t2ia_answers.answers, item.iqa_answers.answers
        origin = item.iqa_answers.provenance
        self["t2ia_questions"].append(len(t2ia))
        self["iqa_questions"].append(len(iqa))
        self["teachers"].append(f"{origin.engine}: {origin.model}")
        self["nodes"].append(len(item.iqa_questions.scene_graph.nodes))
        self["overall"].append(round(0.5 * item.t2ia + 0.5 * item.iqa, 1))
        self["t2ia_scores"] += [answer.score for answer in t2ia]
        self["iqa_scores"] += [answer.score for answer in iqa]
        self["t2ia_targets"] += [answer.target_answer for answer in t2ia]
        self["iqa_targets"] += [answer.target_answer for answer in iqa]


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
    """Scores of single IQA answers."""
    overall: Counter[float] = field(default_factory=Counter)
    """S = 0.5 T2IA + 0.5 IQA of a pair, rounded to tenths."""
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
