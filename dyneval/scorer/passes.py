"""The four passes as data: what is asked of the student, and what its replies say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from statistics import fmean, geometric_mean
from typing import Any

from dyneval.scorer.grammar import SCORES
from dyneval.scorer.settings import Mean

Question = dict[str, Any]


def merge_questions(questions: Sequence[Question]) -> list[Question]:
    """Drop questions asked before (but for case and spacing) and write each as the next turn will.

    That is on one line, and in the normal form NFC: the tokenizer knows no other, so the student could not repeat it.
    """
    merged: dict[str, Question] = {}
    for question in questions:
        text = unicodedata.normalize("NFC", " ".join(question["question"].split()))
        merged.setdefault(text.casefold(), {"question": text, "answer": question["answer"]})
    return list(merged.values())


def scored_questions(
    questions: Sequence[Question], answers: Sequence[dict[str, Any]], probabilities: Sequence[Sequence[float]]
) -> list[Question]:
    """Put a pass's questions, its answers and the probabilities behind its scores together.

    Returns:
        {"question", "answer", "score" (1-5), "soft_score" (1-5, the expectation of the score), "reasoning"} each.
    """
    return [
        {
            **question,
            "score": answer["score"],
            "soft_score": round(expectation(weights), 4),
            "reasoning": answer["reasoning"],
        }
        for question, answer, weights in zip(questions, answers, probabilities, strict=True)
    ]


def expectation(probabilities: Sequence[float]) -> float:
    """Mean score, 1-5, under probabilities of the scores 1 to 5 that add up to 1."""
    mean = sum(score * weight for score, weight in zip(SCORES, probabilities, strict=True))
    return min(max(mean, SCORES[0]), SCORES[-1])


def mean_score(questions: Sequence[Question], key: str = "score", mean: Mean = "arithmetic") -> float:
    """Score of one half, 1-5: the mean over its questions' "score" or "soft_score"."""
    average = fmean if mean == "arithmetic" else geometric_mean
    return min(max(average([question[key] for question in questions]), SCORES[0]), SCORES[-1])
