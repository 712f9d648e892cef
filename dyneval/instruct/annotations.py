"""Joins the four annotation files: all that the teacher said about one pair, each row checked on its own.

A pair may lack some annotations and others may be bad; the good ones are used all the same. The checks here are the
last ones before training: a row that belongs to another prompt or image, or answers to other questions than the file
holds, would otherwise become a sample that contradicts its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

from dyneval.errors import DataFileError, SchemaError
from dyneval.files.origins import other_origin
from dyneval.files.store import JsonlIndex
from dyneval.published.mapping import MAPPING
from dyneval.records import (
    ANNOTATIONS,
    IQAAnswers,
    IQAQuestions,
    PairRecord,
    T2IAAnswers,
    T2IAQuestions,
    Workflow,
)

R = TypeVar("R", T2IAQuestions, T2IAAnswers, IQAQuestions, IQAAnswers)
Fault = Literal["missing_annotation", "bad_annotation", "too_long"]


class Problem(NamedTuple):
    """Why one of the four annotations of a pair gives no sample."""

    workflow: Workflow
    kind: Fault
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedPair:
    """A pair with its checked annotations; one that is missing or bad is None and named in `problems`."""

    pair: PairRecord
    t2ia_questions: T2IAQuestions | None
    t2ia_answers: T2IAAnswers | None
    iqa_questions: IQAQuestions | None
    iqa_answers: IQAAnswers | None
    problems: Sequence[Problem] = ()

    @property
    def t2ia(self) -> float | None:
        """Text-to-image alignment, the mean score of its questions, 1-5."""
        if self.t2ia_answers is None:
            return None
        answers = self.t2ia_answers.answers
        return sum([answer.score for answer in answers]) / len(answers)

    @property
    def iqa(self) -> float | None:
        """Image quality, 1-5: the score of the row, or, where it has none, the mean of its answers."""
        row = self.iqa_answers
        if row is None:
            return None
        # Published rows have a score of their own, and answers without scores.
        if row.score is not None:
            return row.score
        known = [rating for answer in row.answers if (rating := answer.rating) is not None]
        return sum(known) / len(known) if known else None


def overall_score(t2ia: float | None, iqa: float | None) -> float | None:
    """Overall score S = 0.5 T2IA + 0.5 IQA, 1-5, with the weights of the paper.

    Where one part is unknown, S is the other one; where both are, it is None.
    """
    if t2ia is None or iqa is None:
        return iqa if t2ia is None else t2ia
    return 0.5 * t2ia + 0.5 * iqa


class Annotations:
    """The annotation files of one folder, read by pair; a context manager."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Name the files; `with` opens them, and raises DataFileError where one is missing or of the published form.

        Args:
            folder: holds t2ia_questions.jsonl, t2ia_answers.jsonl, iqa_questions.jsonl and iqa_answers.jsonl.
            root: folder of the images.
        """
        self.folder = folder
        self.root = root
        self._last_questions: T2IAQuestions | None = None

    def __enter__(self) -> Self:
        if (self.folder / MAPPING).exists() and not (self.folder / "t2ia_questions.jsonl").exists():
            raise DataFileError(
                f"{self.folder}: holds annotations in the published form; make ours of them first: "
                f"dyneval published import --annotations-file {self.folder / MAPPING}"
            )
        # The indexes are read here, before the builder forks: its workers share them.
        with ExitStack() as stack:
            self._files: dict[Workflow, JsonlIndex[Any]] = {}
            for name, record in ANNOTATIONS.items():
                self._files[name] = JsonlIndex(self.folder / f"{name}.jsonl", record)
                stack.callback(self._files[name].close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def of(self, pair: PairRecord) -> AnnotatedPair:
        """Return the pair with its annotations. A bad row is a problem of its workflow and leaves the others usable."""
        problems: list[Problem] = []
        # Images of one prompt mostly follow each other in the metadata, so their questions are read once.
        t2ia_questions = self._last_questions
        if (
            t2ia_questions is None
            or t2ia_questions.prompt_id != pair.prompt_id
            or other_origin(t2ia_questions, pair, self.root)
        ):
            t2ia_questions = self._read(T2IAQuestions, "t2ia_questions", pair.prompt_id, pair, problems)
            self._last_questions = t2ia_questions
        t2ia_answers = self._read(T2IAAnswers, "t2ia_answers", pair.pair_id, pair, problems)
        iqa_questions = self._read(IQAQuestions, "iqa_questions", pair.pair_id, pair, problems)
        iqa_answers = self._read(IQAAnswers, "iqa_answers", pair.pair_id, pair, problems)
        return AnnotatedPair(
            pair=pair,
            t2ia_questions=t2ia_questions,
            t2ia_answers=_answering(t2ia_questions, t2ia_answers, "t2ia_answers", pair, problems),
            iqa_questions=iqa_questions,
            iqa_answers=_answering(iqa_questions, iqa_answers, "iqa_answers", pair, problems),
            problems=problems,
        )

    def _read(self, kind: type[R], name: Workflow, key: str, pair: PairRecord, problems: list[Problem]) -> R | None:
        where = f"{pair.pair_id}: {name}"
        try:
            row: R | None = self._files[name].get(key, where)
            if row is None:
                problems.append(Problem(name, "missing_annotation", f"no {name}"))
                return None
            if reason := other_origin(row, pair, self.root):
                raise SchemaError(f"{where}: {reason}; annotate it again")
        except SchemaError as error:
            problems.append(Problem(name, "bad_annotation", str(error)))
            return None
        return row


A = TypeVar("A", T2IAAnswers, IQAAnswers)


def _answering(
    questions: T2IAQuestions | IQAQuestions | None,
    answers: A | None,
    name: Workflow,
    pair: PairRecord,
    problems: list[Problem],
) -> A | None:
    """The answers, or None with a problem where they are not the answers to `questions`, one by one.

    Answers without questions are kept: they hold the text of their questions.
    """
    if questions is None or answers is None:
        return answers
    # The teacher's questions may have been asked again since; the answers then judge something else.
    if [question.question for question in questions.questions] == [answer.question for answer in answers.answers]:
        return answers
    reason = f"{pair.pair_id}: {name}: answers to other questions than there are; annotate {name} again with --force"
    problems.append(Problem(name, "bad_annotation", reason))
    return None
