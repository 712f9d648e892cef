"""Training samples in exactly the form that the student meets again when it scores.

Their answers are made of rows that were checked when they were read: what those can hold fits the student's replies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Raw
from msgspec.structs import replace

from dyneval import replies, tokens
from dyneval.errors import SchemaError
from dyneval.files.jsonl import to_line
from dyneval.records import (
    InstructSample,
    IQAAnswer,
    IQAAnswers,
    IQAQuestions,
    PairRecord,
    T2IAAnswer,
    T2IAAnswers,
    T2IAQuestions,
    Turn,
    Workflow,
)
from dyneval.replies import DEFAULT_FORM, ReplyForm
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion, contains_task_token


class Wording(NamedTuple):
    """The two things that the published README and the published builder do differently."""

    template: TemplateVersion = DEFAULT_TEMPLATE
    reply_form: ReplyForm = DEFAULT_FORM


def _t2ia_questions(pair: PairRecord, row: T2IAQuestions, wording: Wording) -> InstructSample:
    """Prompt to alignment questions, without image; the same for all images of a prompt."""
    turn = tokens.t2ia_turn(pair.prompt, wording.template)
    return _sample(f"{pair.prompt_id}:t2ia", turn, replies.write_questions(row.questions), None)


def _t2ia_answers(pair: PairRecord, row: T2IAAnswers, wording: Wording) -> InstructSample:
    """Image, prompt and alignment questions to answers."""
    return _evaluation(pair, row.answers, replies.write(wording.reply_form, "t2ia", row.answers))


def _iqa_questions(pair: PairRecord, row: IQAQuestions, wording: Wording) -> InstructSample:
    """Image to scene graph and quality questions."""
    reply = replies.write_scene(_plain(row), row.questions)
    return _sample(f"{pair.pair_id}:iqa", tokens.iqa_turn(), reply, pair.file_name)


def _iqa_answers(pair: PairRecord, row: IQAAnswers, wording: Wording) -> InstructSample:
    """Image, prompt and quality questions to answers."""
    if wording.reply_form == "release":
        return _evaluation(pair, row.answers, replies.write("release", "iqa", row.answers, row.score))
    answers: Sequence[IQAAnswer] = row.answers
    if any([answer.score is None for answer in row.answers]):
        answers = [replace(answer, score=_rating(answer)) for answer in row.answers]
    return _evaluation(pair, row.answers, replies.write("readme", "iqa", answers))


MAKERS: dict[Workflow, Callable[..., InstructSample]] = {
    "t2ia_questions": _t2ia_questions,
    "t2ia_answers": _t2ia_answers,
    "iqa_questions": _iqa_questions,
    "iqa_answers": _iqa_answers,
}
"""From a pair, the row of a workflow and a Wording to a sample; ValueError where the row cannot be trained on."""


def _plain(row: IQAQuestions) -> Raw:
    """The scene graph as JSON with no more escapes than `json.dumps(..., ensure_ascii=False)` writes.

    Raises ValueError on half a character.
    """
    return Raw(to_line(row.graph).rstrip()) if b"\\" in bytes(row.scene_graph) else row.scene_graph


def _rating(answer: IQAAnswer) -> int:
    if answer.rating is None:
        raise ValueError(
            f"the answer to {answer.question[:80]!r} has no score and is neither correct nor wrong, which the readme "
            "form cannot say; --reply-form release can"
        )
    return answer.rating


def _evaluation(pair: PairRecord, answers: Sequence[T2IAAnswer] | Sequence[IQAAnswer], reply: str) -> InstructSample:
    turn = tokens.evaluation_turn(pair.prompt, [*map(str.strip, [answer.question for answer in answers])])
    return _sample(f"{pair.pair_id}:evaluation", turn, reply, pair.file_name)


def _sample(name: str, turn: str, reply: str, image: str | None) -> InstructSample:
    if "<" in reply and contains_task_token(reply):  # rare, and one character is found in a tenth of the time
        raise SchemaError(f"{name}: the answer holds a task token, which belongs to human turns only")
    return InstructSample(
        id=name,
        image=image,
        conversations=(Turn(speaker="human", value=turn), Turn(speaker="gpt", value=reply)),
    )
