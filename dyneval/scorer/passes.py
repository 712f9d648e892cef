"""What the passes find out: questions merged, questions with their scores, and the score of a part."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from statistics import fmean, geometric_mean
from typing import Any

from dyneval.replies import RATINGS, Evaluated, QuestionItem
from dyneval.scorer.settings import Mean

Question = dict[str, Any]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def merge_questions(questions: Iterable[QuestionItem]) -> list[Question]:
    """Drop blank questions and those asked before (but for case and spacing); write each as the next turn will.

    That is on one line, and in the normal form NFC: the tokenizer knows no other, so the student could not repeat it.
    """
    merged: dict[str, Question] = {}
    for question in questions:
        text = unicodedata.normalize("NFC", " ".join(_CONTROL.sub(" ", question.question).split()))
        if text:
            merged.setdefault(text.casefold(), {"question": text, "answer": question.answer})
    return list(merged.values())


def scored_questions(questions: Sequence[Question], evaluated: Evaluated) -> list[Question]:
    """Put a pass's questions and what the student says to them together.

    Returns:
        {"question", "answer", "score" (1-5), "soft_score" (1-5, the expectation of the score), "reasoning"} each, and
        "correct_probability" (0-1) where the student gave no score but said whether the image passes.
    """
    return [
        {
            **question,
            "score": rated.score,
            "soft_score": round(rated.soft_score, 4),
            "reasoning": rated.reasoning,
            **(
                {}
                if rated.correct_probability is None
                else {"correct_probability": round(rated.correct_probability, 4)}
            ),
        }
        for question, rated in zip(questions, evaluated.questions, strict=True)
    ]


def part_scores(evaluated: Evaluated, mean: Mean = "arithmetic") -> tuple[float, float]:
    """Score and soft score of a part, 1-5: the means over its questions.

    Where the questions have no scores of their own, as of IQA in the release form, the student's score of the whole.
    """
    if evaluated.is_holistic and evaluated.holistic is not None and evaluated.soft_holistic is not None:
        return float(evaluated.holistic), evaluated.soft_holistic
    scores = mean_score([rated.score for rated in evaluated.questions], mean)
    return scores, mean_score([round(rated.soft_score, 4) for rated in evaluated.questions], mean)


def mean_score(scores: Sequence[float], mean: Mean = "arithmetic") -> float:
    """Mean of scores from 1 to 5."""
    average = fmean if mean == "arithmetic" else geometric_mean
    return min(max(average(scores), RATINGS[0]), RATINGS[-1])
