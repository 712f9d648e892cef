"""The annotations of every pair, joined: read one pair at a time, each of the four checked on its own.

A pair may lack some of them, and some may be bad: the others are of use all the same.
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
    """A pair with what the teacher said about it, checked; what is missing or bad is None and named in `problems`."""

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
        if row.score is not None:
            return row.score
        known = [rating for answer in row.answers if (rating := answer.rating) is not None]
        return sum(known) / len(known) if known else None

    @property
    def overall(self) -> float | None:
        """S of the pair, see `overall_score`."""
        return overall_score(self.t2ia, self.iqa)


def overall_score(t2ia: float | None, iqa: float | None) -> float | None:
    """S = 0.5 T2IA + 0.5 IQA, 1-5; where one of them is unknown the other; None where both are."""
    if t2ia is None or iqa is None:
        return iqa if t2ia is None else t2ia
    return 0.5 * t2ia + 0.5 * iqa


class Annotations:
    """Annotation files of one folder, opened to be read by pair."""

    def __init__(self, folder: Path, root: Path) -> None:
        """Describe the files.

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
                f'python "Distill Annotations/convert.py" import --annotations-file {self.folder / MAPPING}'
            )
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
        """Return the pair with its annotations; none of them costs another one."""
        problems: list[Problem] = []
        t2ia_questions = self._t2ia_questions(pair, problems)
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

    def _t2ia_questions(self, pair: PairRecord, problems: list[Problem]) -> T2IAQuestions | None:
        """Questions of the pair's prompt; images of one prompt mostly follow each other."""
        last = self._last_questions
        if last is None or last.prompt_id != pair.prompt_id or other_origin(last, pair, self.root):
            last = self._read(T2IAQuestions, "t2ia_questions", pair.prompt_id, pair, problems)
            self._last_questions = last
        return last

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
    """The answers, or None where there are questions that they do not answer, one by one."""
    if questions is None or answers is None:
        return answers
    if [question.question for question in questions.questions] == [answer.question for answer in answers.answers]:
        return answers
    reason = f"{pair.pair_id}: {name}: answers to other questions than there are; annotate {name} again with --force"
    problems.append(Problem(name, "bad_annotation", reason))
    return None
