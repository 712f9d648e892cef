"""Training samples in exactly the form that the student meets again when it scores.

Their answers are made of rows that were checked when they were read, by types that are at least as strict as the schema
of the student's replies: what the types below can hold fits it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from dyneval import schemas, tokens
from dyneval.instruct import rows
from dyneval.instruct.annotations import AnnotatedPair
from dyneval.records import InstructSample, YesNo, student_json
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion, contains_task_token


class _Question(Struct, gc=False):
    question: rows.Text
    answer: YesNo


class _Answer(Struct, gc=False):
    # The student gives the score before the reasoning; the teacher reasoned first.
    question: rows.Text
    score: rows.Score
    reasoning: rows.Text


class _Evaluation(Struct, gc=False):
    answers: list[_Answer]


class _IQA(Struct, gc=False):
    scene_graph: rows.SceneGraph
    questions: list[_Question]


def t2ia_sample(item: AnnotatedPair, template: TemplateVersion = DEFAULT_TEMPLATE) -> InstructSample:
    """Prompt to alignment questions, without image; the same for all images of a prompt."""
    reply = _questions(item.t2ia_questions.questions)
    return _sample(f"{item.pair.prompt_id}:t2ia", tokens.t2ia_turn(item.pair.prompt, template), reply, None)


def t2ia_evaluation_sample(item: AnnotatedPair) -> InstructSample:
    """Image, prompt and alignment questions to answers."""
    return _evaluation(item, item.t2ia_answers.answers)


def iqa_sample(item: AnnotatedPair) -> InstructSample:
    """Image to scene graph and quality questions."""
    reply = _IQA(item.iqa_questions.scene_graph, _questions(item.iqa_questions.questions))
    return _sample(f"{item.pair.pair_id}:iqa", tokens.iqa_turn(), reply, item.pair.file_name)


def iqa_evaluation_sample(item: AnnotatedPair) -> InstructSample:
    """Image, prompt and quality questions to answers."""
    return _evaluation(item, item.iqa_answers.answers)


def _evaluation(item: AnnotatedPair, answers: Sequence[rows.T2IAAnswer | rows.IQAAnswer]) -> InstructSample:
    reply = _Evaluation([_Answer(answer.question, answer.score, answer.reasoning) for answer in answers])
    turn = tokens.evaluation_turn(item.pair.prompt, [answer.question for answer in answers])
    return _sample(f"{item.pair.pair_id}:evaluation", turn, reply, item.pair.file_name)


def _questions(questions: Sequence[rows.Question]) -> list[_Question]:
    return [_Question(question.question, question.answer) for question in questions]


def _sample(name: str, turn: str, reply: Struct | list[_Question], image: str | None) -> InstructSample:
    value = student_json(reply)
    if "<" in value and contains_task_token(value):  # rare, and one character is found in a tenth of the time
        raise schemas.SchemaError(f"{name}: the answer holds a task token, which belongs to human turns only")
    return InstructSample(
        id=name,
        image=image,
        conversations=[{"from": "human", "value": turn}, {"from": "gpt", "value": value}],
    )
