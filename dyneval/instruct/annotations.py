"""The four annotations of every pair, joined: read one pair at a time, checked, and consistent with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from dyneval.instruct.rows import IQAAnswersRow, IQAQuestionsRow, T2IAAnswersRow, T2IAQuestionsRow, TypedRow
from dyneval.records import PairRecord
from dyneval.schemas import SchemaError
from dyneval.storage import JsonlIndex, read_jsonl
from dyneval.teacher import published
from dyneval.teacher.published import Entry, Kind

R = TypeVar("R", bound=TypedRow)
KEYS = {"t2ia_questions": "prompt_id", "t2ia_answers": "pair_id", "iqa_questions": "pair_id", "iqa_answers": "pair_id"}


class MissingAnnotationError(ValueError):
    """A pair has not been annotated in full; the message says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedPair:
    """A pair with all that the teacher said about it, checked. Scores are means over its questions, 1-5."""

    pair: PairRecord
    t2ia_questions: T2IAQuestionsRow
    t2ia_answers: T2IAAnswersRow
    iqa_questions: IQAQuestionsRow
    iqa_answers: IQAAnswersRow

    @property
    def t2ia(self) -> float:
        """Text-to-image alignment."""
        answers = self.t2ia_answers.answers
        return sum([answer.score for answer in answers]) / len(answers)

    @property
    def iqa(self) -> float:
        """Image quality."""
        return self.iqa_answers.score


class Annotations:
    """Annotation files of one folder, opened to be read by pair."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds t2ia_questions.jsonl, t2ia_answers.jsonl, iqa_questions.jsonl and iqa_answers.jsonl."""
        self.folder = folder
        self._last_questions: T2IAQuestionsRow | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._files: dict[str, JsonlIndex] = {}
            for name, key in KEYS.items():
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
        return _consistent(
            AnnotatedPair(
                pair=pair,
                t2ia_questions=self._t2ia_questions(pair),
                t2ia_answers=self._read(T2IAAnswersRow, pair.pair_id, pair),
                iqa_questions=self._read(IQAQuestionsRow, pair.pair_id, pair),
                iqa_answers=self._read(IQAAnswersRow, pair.pair_id, pair),
            )
        )

    def _t2ia_questions(self, pair: PairRecord) -> T2IAQuestionsRow:
        """Questions of the pair's prompt; images of one prompt mostly follow each other."""
        last = self._last_questions
        if last is None or last.prompt_id != pair.prompt_id:
            last = self._last_questions = self._read(T2IAQuestionsRow, pair.prompt_id, pair)
        return last

    def _read(self, kind: type[R], key: str, pair: PairRecord) -> R:
        name = kind.RECORD.SCHEMA
        line = self._files[name].line(key)
        if line is None:
            raise MissingAnnotationError(f"no {name}")
        where = f"{pair.pair_id}: {name}"
        return kind.parse(line) or kind.of(kind.RECORD.from_dict(self._files[name].row(key, line), where), where)


class PublishedAnnotations:
    """Annotations in the published form, one JSON file a pair; the same to the reader as `Annotations`."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds t2ia_mapping.json and iqa_mapping.json."""
        self.folder = folder
        self._entries: dict[Kind, dict[str, Entry]] = {}

    def __enter__(self) -> Self:
        for kind, name in published.MAPPINGS.items():
            entries = published.read_mapping(self.folder / name)
            self._entries[kind] = {entry.pair_id: entry for entry in entries}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entries.clear()

    def of(self, pair: PairRecord) -> AnnotatedPair:
        """As `Annotations.of`; IQA answers without scores count as 5 where `correct` and as 1 where not."""
        t2ia, iqa = (self._entries[kind].get(pair.pair_id) for kind in published.MAPPINGS)
        if t2ia is None or iqa is None:
            raise MissingAnnotationError("not in the mapping files")
        where, folder = pair.pair_id, self.folder
        return _consistent(
            AnnotatedPair(
                pair=pair,
                t2ia_questions=T2IAQuestionsRow.of(published.read_t2ia_questions(folder, t2ia), where),
                t2ia_answers=T2IAAnswersRow.of(published.read_t2ia_answers(folder, t2ia), where),
                iqa_questions=IQAQuestionsRow.of(published.read_iqa_questions(folder, iqa), where),
                iqa_answers=IQAAnswersRow.of(published.read_iqa_answers(folder, iqa)[0], where),
            )
        )


def open_annotations(folder: Path) -> Annotations | PublishedAnnotations:
    """The annotations of a folder, in our form or the published one; to be used with `with`."""
    is_published = (folder / published.MAPPINGS["t2ia"]).exists()
    return PublishedAnnotations(folder) if is_published else Annotations(folder)


def _consistent(item: AnnotatedPair) -> AnnotatedPair:
    _check_questions(item.pair.pair_id, "t2ia", item.t2ia_questions, item.t2ia_answers)
    _check_questions(item.pair.pair_id, "iqa", item.iqa_questions, item.iqa_answers)
    return item


def _check_questions(
    pair_id: str, kind: str, questions: T2IAQuestionsRow | IQAQuestionsRow, answers: T2IAAnswersRow | IQAAnswersRow
) -> None:
    asked = [question.question for question in questions.questions]
    if asked != [answer.question for answer in answers.answers]:
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
