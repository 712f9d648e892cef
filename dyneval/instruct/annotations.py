"""The four annotations of every pair, joined: read one pair at a time, checked, and consistent with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dyneval.records import IQAAnswers, IQAQuestions, PairRecord, Record, T2IAAnswers, T2IAQuestions
from dyneval.schemas import SchemaError
from dyneval.storage import DataFileError, JsonlIndex, read_jsonl

RECORDS: dict[str, type[Record]] = {
    "t2ia_questions": T2IAQuestions,
    "t2ia_answers": T2IAAnswers,
    "iqa_questions": IQAQuestions,
    "iqa_answers": IQAAnswers,
}


class MissingAnnotationError(ValueError):
    """A pair has not been annotated in full; the message says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedPair:
    """A pair with all that the teacher said about it. Scores are means over its questions, 1-5."""

    pair: PairRecord
    t2ia_questions: T2IAQuestions
    t2ia_answers: T2IAAnswers
    iqa_questions: IQAQuestions
    iqa_answers: IQAAnswers

    @property
    def t2ia(self) -> float:
        """Text-to-image alignment."""
        answers = self.t2ia_answers.answers
        return sum(answer["score"] for answer in answers) / len(answers)

    @property
    def iqa(self) -> float:
        """Image quality."""
        return self.iqa_answers.score


class Annotations:
    """Annotation files of one folder, opened to be read by pair."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds t2ia_questions.jsonl, t2ia_answers.jsonl, iqa_questions.jsonl and iqa_answers.jsonl."""
        self.folder = folder

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._files: dict[str, JsonlIndex] = {}
            for name in RECORDS:
                key = "prompt_id" if name == "t2ia_questions" else "pair_id"
                self._files[name] = JsonlIndex(self.folder / f"{name}.jsonl", key)
                stack.callback(self._files[name].close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def of(self, pair: PairRecord) -> AnnotatedPair:
        """Return the pair with its annotations.

        Raises:
            MissingAnnotationError: one of the four is missing.
            DataFileError, SchemaError: one cannot be read, or does not fit its schema or the others.
        """
        found: dict[str, Any] = {}
        for name, record in RECORDS.items():
            row = self._files[name].get(pair.prompt_id if name == "t2ia_questions" else pair.pair_id)
            if row is None:
                raise MissingAnnotationError(f"no {name}")
            found[name] = record.from_dict(row, f"{pair.pair_id}: {name}")
        annotated = AnnotatedPair(pair=pair, **found)
        _check_questions(pair.pair_id, "t2ia", annotated.t2ia_questions, annotated.t2ia_answers)
        _check_questions(pair.pair_id, "iqa", annotated.iqa_questions, annotated.iqa_answers)
        return annotated


def _check_questions(
    pair_id: str, kind: str, questions: T2IAQuestions | IQAQuestions, answers: T2IAAnswers | IQAAnswers
) -> None:
    asked = [question["question"] for question in questions.questions]
    if asked != [answer["question"] for answer in answers.answers]:
        raise SchemaError(
            f"{pair_id}: {kind}_answers: answers to other questions than {kind}_questions holds; "
            f"annotate {kind}_answers again with --force"
        )


def read_pairs(metadata: Path, report: Callable[[str, str], None]) -> Iterator[PairRecord]:
    """Yield the pairs of metadata.jsonl; `report` gets pair_id and reason of every row that is none.

    Raises DataFileError when the file is missing or is not JSONL.
    """
    for number, row in enumerate(read_jsonl(metadata), 1):
        try:
            pair = PairRecord.from_dict(row, f"{metadata}:{number}")
        except SchemaError as error:
            report(str(row.get("pair_id") or f"row {number}"), str(error))
            continue
        yield pair


__all__ = ["AnnotatedPair", "Annotations", "DataFileError", "MissingAnnotationError", "read_pairs"]
