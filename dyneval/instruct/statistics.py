"""Counts over the kept pairs, for the report and the dataset card: questions a pair, scores, targets, tokens.

Workers observe and count a chunk, and the builder adds the chunks up. A teacher that always gives the same score, or a
limit that cuts questions off, shows in these histograms before a student is trained on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dyneval.instruct.annotations import AnnotatedPair
from dyneval.structs import Row


class Observations(defaultdict[str, list[Any]]):
    """Values of the kept pairs of a chunk, by histogram.

    They are counted once a chunk (`Statistics.count`): a `Counter.update` for each pair takes longer to start than it
    takes to count.
    """

    def __init__(self) -> None:
        super().__init__(list)

    def add(self, item: AnnotatedPair, overall: float | None, tokens: Sequence[int]) -> None:
        """Note the values of one kept pair.

        Args:
            item: the pair, with those of the four annotations that it has.
            overall: its S, 1-5.
            tokens: of each of its samples, where they are counted.
        """
        if item.t2ia_answers is not None:
            answers = item.t2ia_answers.answers
            self["t2ia_questions"].append(len(answers))
            self["t2ia_targets"] += [answer.target_answer for answer in answers]
            self["t2ia_scores"] += [answer.score for answer in answers]
        if item.iqa_answers is not None:
            judged = item.iqa_answers.answers
            self["iqa_questions"].append(len(judged))
            self["iqa_targets"] += [answer.target_answer for answer in judged]
            scores = [answer.score for answer in judged]
            if None in scores:  # published answers, which have no score of their own
                scores = [rating for answer in judged if (rating := answer.rating) is not None]
            self["iqa_scores"] += scores
        if item.iqa_questions is not None:
            self["nodes"].append(item.iqa_questions.nodes)
        if overall is not None:
            # In tenths, a bar of the report each: S of 50 answers has hundreds of different values.
            self["overall"].append(round(overall, 1))
        # A pair counts for one teacher, that of the last annotation in the order of the work.
        rows = (item.iqa_answers, item.t2ia_answers, item.iqa_questions, item.t2ia_questions)
        origin = next(row.provenance for row in rows if row is not None)
        self["teachers"].append(f"{origin.engine}: {origin.model}")
        if tokens:
            self["tokens"] += [count // 100 * 100 for count in tokens]


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
    """S = 0.5 T2IA + 0.5 IQA of a pair, or the part that is there, rounded to tenths."""
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
        described: dict[str, Row] = {}
        for name in self.__dataclass_fields__:
            counts: Counter[Any] = getattr(self, name)
            described[name] = {"count": counts.total()}
            if counts and not any(isinstance(value, str) for value in counts):
                total = sum(value * number for value, number in counts.items())
                described[name]["mean"] = round(total / counts.total(), 3)
            described[name]["histogram"] = {str(value): counts[value] for value in sorted(counts)}
        return described
