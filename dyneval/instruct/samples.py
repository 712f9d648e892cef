"""Writes training samples in exactly the form that the student meets again when it scores.

Human turns come from `dyneval.tokens` and answers from `dyneval.replies`, which the scorer uses too: a student that is
trained on other words than it is asked with scores worse, and nothing fails. The rows were checked when they were read,
and whatever such a row can hold fits the student's replies.
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
    """The two choices in which the published README and the published builder differ.

    Attributes:
        template: version of the human turns.
        reply_form: form of the answers to questions.
    """

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
    """Image to scene graph and quality questions. Raises ValueError on half a character in the scene graph."""
    graph = row.scene_graph
    # The graph goes on as the bytes of the file, without being parsed. Only one with escapes, such as \u00e9, is
    # written anew: the student writes its replies without them.
    if b"\\" in bytes(graph):
        graph = Raw(to_line(row.graph).rstrip())
    reply = replies.write_scene(graph, row.questions)
    return _sample(f"{pair.pair_id}:iqa", tokens.iqa_turn(), reply, pair.file_name)


def _iqa_answers(pair: PairRecord, row: IQAAnswers, wording: Wording) -> InstructSample:
    """Image, prompt and quality questions to answers."""
    if wording.reply_form == "release":
        return _evaluation(pair, row.answers, replies.write("release", "iqa", row.answers, row.score))
    answers: Sequence[IQAAnswer] = row.answers
    # Published answers have no score of their own; the readme form needs one for each question.
    if any([answer.score is None for answer in row.answers]):
        for answer in row.answers:
            if answer.rating is None:
                raise ValueError(
                    f"the answer to {answer.question[:80]!r} has no score and is neither correct nor wrong, which the "
                    "readme form cannot say; --reply-form release can"
                )
        answers = [replace(answer, score=answer.rating) for answer in row.answers]
    return _evaluation(pair, row.answers, replies.write("readme", "iqa", answers))


MAKERS: dict[Workflow, Callable[..., InstructSample]] = {
    "t2ia_questions": _t2ia_questions,
    "t2ia_answers": _t2ia_answers,
    "iqa_questions": _iqa_questions,
    "iqa_answers": _iqa_answers,
}
"""From a pair, the row of a workflow and a Wording to a sample; ValueError where the row cannot be trained on."""


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
