"""Training samples in exactly the form that the student meets again when it scores."""

from __future__ import annotations

from typing import Any

from dyneval import schemas, tokens
from dyneval.instruct.annotations import AnnotatedPair
from dyneval.records import InstructSample, student_json
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion, contains_task_token


def t2ia_sample(item: AnnotatedPair, template: TemplateVersion = DEFAULT_TEMPLATE) -> InstructSample:
    """Prompt to alignment questions, without image; the same for all images of a prompt."""
    reply = [_question(question) for question in item.t2ia_questions.questions]
    turn = tokens.t2ia_turn(item.pair.prompt, template)
    return _sample(f"{item.pair.prompt_id}:t2ia", "t2ia", turn, reply, None)


def t2ia_evaluation_sample(item: AnnotatedPair) -> InstructSample:
    """Image, prompt and alignment questions to answers."""
    return _evaluation(item, item.t2ia_answers.answers)


def iqa_sample(item: AnnotatedPair) -> InstructSample:
    """Image to scene graph and quality questions."""
    questions = [_question(question) for question in item.iqa_questions.questions]
    reply = {"scene_graph": _graph(item.iqa_questions.scene_graph), "questions": questions}
    return _sample(f"{item.pair.pair_id}:iqa", "iqa", tokens.iqa_turn(), reply, item.pair.file_name)


def iqa_evaluation_sample(item: AnnotatedPair) -> InstructSample:
    """Image, prompt and quality questions to answers."""
    return _evaluation(item, item.iqa_answers.answers)


def _evaluation(item: AnnotatedPair, answers: list[dict[str, Any]]) -> InstructSample:
    # The student gives the score before the reasoning; the teacher reasoned first.
    reply = {"answers": [{key: answer[key] for key in ("question", "score", "reasoning")} for answer in answers]}
    turn = tokens.evaluation_turn(item.pair.prompt, [answer["question"] for answer in answers])
    return _sample(f"{item.pair.pair_id}:evaluation", "evaluation", turn, reply, item.pair.file_name)


def _sample(name: str, task: str, turn: str, reply: Any, image: str | None) -> InstructSample:
    schemas.check("student_reply", reply, name, definition=task)
    value = student_json(reply)
    if "<|" in value and contains_task_token(value):  # rare, and found in a tenth of the time
        raise schemas.SchemaError(f"{name}: the answer holds a task token, which belongs to human turns only")
    sample = InstructSample(
        id=name,
        image=image,
        conversations=[{"from": "human", "value": turn}, {"from": "gpt", "value": value}],
    )
    schemas.check(sample.SCHEMA, sample.to_dict(), name)
    return sample


def _question(question: dict[str, str]) -> dict[str, str]:
    return {"question": question["question"], "answer": question["answer"]}


def _graph(graph: dict[str, Any]) -> dict[str, Any]:
    nodes = [{key: node[key] for key in ("id", "label", "attributes")} for node in graph["nodes"]]
    edges = [{key: edge[key] for key in ("source", "target", "relationship")} for edge in graph["edges"]]
    return {"nodes": nodes, "edges": edges}
