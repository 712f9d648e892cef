"""What a teacher's reply must hold: the JSON Schema that is sent along, and the check of what comes back.

Servers that constrain decoding follow the schema; others ignore it, so every reply is checked in full all the same. A
check raises UnusableReply with a message that the teacher is shown when it is asked again. Whatever passes here ends in
the training data: an answer matched to the wrong question would teach the student a wrong score.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dyneval.llm.chat import UnusableReply, half_character
from dyneval.records import Edge, IQAAnswer, Node, Part, Question, SceneGraph, T2IAAnswer, YesNo
from dyneval.teacher.extract import extract_json
from dyneval.tokens import contains_task_token

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Limits of a reply. Published scenes of 16-20 objects have 66.6 quality questions on average, so 160 cut none."""

    alignment: int = 100
    """Alignment questions a prompt, at most."""
    distortion: int = 40
    """Distortion questions a prompt, at most."""
    quality: int = 160
    """Quality questions an image, at most."""
    nodes: int = 80
    """Objects and parts in a scene graph, at most."""
    edges: int = 160
    """Relations in a scene graph, at most."""
    question: int = 400
    """Characters in a question."""
    reasoning: int = 1200
    """Characters in the reasoning of an answer."""
    label: int = 120
    """Characters in a name, attribute or relation of the scene graph."""
    attributes: int = 24
    """Attributes an object, at most."""


BOUNDS = Bounds()

# ---------------------------------------------------------------------------------------------------------------------
# Schemas. Every array has maxItems and every string maxLength: without them the teacher family writes to the limit.


def questions_schema(most: int) -> Json:
    """Return the schema of a reply with 1 to `most` questions and their target answers."""
    text = {"type": "string", "minLength": 1, "maxLength": BOUNDS.question}
    question = _object(question=text, answer={"enum": ["yes", "no"]})
    return _object(questions={"type": "array", "items": question, "minItems": 1, "maxItems": most})


def scene_schema(bounds: Bounds = BOUNDS) -> Json:
    """Return the schema of a reply with a scene graph and quality questions.

    The graph comes first: the questions are made from its nodes and edges.

    Args:
        bounds: limits of both.
    """
    label = {"type": "string", "minLength": 1, "maxLength": bounds.label}
    attributes = {"type": "array", "items": label, "maxItems": bounds.attributes}
    node = _object(id=label, label=label, attributes=attributes)
    edge = _object(source=label, target=label, relationship=label)
    graph = _object(
        nodes={"type": "array", "items": node, "minItems": 1, "maxItems": bounds.nodes},
        edges={"type": "array", "items": edge, "minItems": 0, "maxItems": bounds.edges},
    )
    return _object(scene_graph=graph, **questions_schema(bounds.quality)["properties"])


def answers_schema(kind: Part, count: int) -> Json:
    """Return the schema of a reply with answers.

    In each answer the reasoning comes before the score that it leads to.

    Args:
        kind: "iqa" answers also say yes or no.
        count: answers, one for each question.
    """
    answer: Json = {
        "question": {"type": "string", "minLength": 1, "maxLength": BOUNDS.question},
        "reasoning": {"type": "string", "minLength": 1, "maxLength": BOUNDS.reasoning},
    }
    if kind == "iqa":
        answer["answer"] = {"enum": ["yes", "no"]}
    answer["score"] = {"type": "integer", "minimum": 1, "maximum": 5}
    return _object(answers={"type": "array", "items": _object(**answer), "minItems": count, "maxItems": count})


def _object(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Checks of what came back. They raise UnusableReply with a message that is sent to the teacher.


_FOLDED = str.maketrans(
    dict.fromkeys("‘’‚‛′´`ʼʹ“”„‟″«»‹›", "'")
    | {'"': "'"}
    | dict.fromkeys("‐‑‒–—―−⁃﹘", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", "")
)
"""Quotation marks, dashes, and letters without width."""


def same_question(text: str) -> str:
    """Key that two spellings of a question share.

    Case, spaces, quotation marks, dashes, numbering and end marks do not count: teachers copy questions with these
    changed.
    """
    # Folded before NFKC and after it: NFKC turns an accent that stands alone into a space and a combining accent.
    folded = unicodedata.normalize("NFKC", text.translate(_FOLDED)).translate(_FOLDED).casefold()
    plain = " ".join(re.sub(r"-(?:\s*-)+|\s+-\s+", "-", folded).split())
    # The number and the bracket with the expected answer, as `answers_request` writes them before a question.
    plain = re.sub(r"^(?:\W*\d+[.):]\s+)?(?:\[(?:expected: )?(?:yes|no)\]\s*)?", "", plain)
    return plain.strip(" '?.!*:")


def parse_questions(text: str, most: int) -> list[Question]:
    """Read questions with their target answers from a reply; a question asked twice is kept once.

    Raises:
        UnusableReply: there are none or more than `most`, or one lacks its text or a yes/no answer.
    """
    return _checked_questions(_member(extract_json(text), "questions"), most)


def parse_scene(text: str, bounds: Bounds = BOUNDS) -> tuple[SceneGraph, list[Question]]:
    """Read a scene graph and quality questions from a reply.

    Raises:
        UnusableReply: a part is missing or over its bound, two nodes share an id, or an edge leads to no node.
    """
    value = extract_json(text)
    graph = value.get("scene_graph") if isinstance(value, dict) else None
    if not isinstance(graph, dict):
        raise UnusableReply('expected {"scene_graph": {...}, "questions": [...]}')
    for name, most in (("nodes", bounds.nodes), ("edges", bounds.edges)):
        if not isinstance(graph.get(name), list) or len(graph[name]) > most:
            raise UnusableReply(f"scene_graph.{name} is a list of at most {most} objects")
    nodes = []
    for node in graph["nodes"]:
        name, label = _name(node, "id", bounds.label), _name(node, "label", bounds.label)
        attributes = node.get("attributes", [])
        if isinstance(attributes, dict):  # {"colour": "red"}: some teachers insist on names
            attributes = [f"{key}: {value}" for key, value in attributes.items()]
        if not isinstance(attributes, list) or len(attributes) > bounds.attributes:
            raise UnusableReply(f"node {name!r}: attributes is a list of at most {bounds.attributes} strings")
        kept = [_plain(item, f"an attribute of node {name!r}", bounds.label) for item in attributes]
        nodes.append(Node(id=name, label=label, attributes=tuple(kept)))
    ids = {node.id for node in nodes}
    if not nodes or len(ids) < len(nodes):
        raise UnusableReply("the scene graph needs at least one node, and every node an id of its own")
    edges = []
    for edge in graph["edges"]:
        source, target, relationship = (
            _name(edge, name, bounds.label) for name in ("source", "target", "relationship")
        )
        if not {source, target} <= ids:
            raise UnusableReply(f"an edge joins {source!r} and {target!r}; not both are nodes")
        edges.append(Edge(source=source, target=target, relationship=relationship))
    questions = _checked_questions(_member(value, "questions"), bounds.quality)
    return SceneGraph(nodes=tuple(nodes), edges=tuple(edges)), questions


def parse_t2ia_answers(text: str, questions: Sequence[Question]) -> list[T2IAAnswer]:
    """Read the answers to `questions`, in the order of the questions, matched by the text of the question.

    Raises:
        UnusableReply: an answer is missing, doubled, to a question not asked, or lacks reasoning or a whole score 1-5.
    """
    return [
        T2IAAnswer(
            question=asked.question,
            target_answer=asked.answer,
            reasoning=_text(item, "reasoning", BOUNDS.reasoning),
            score=_score(item.get("score"), asked.question),
        )
        for asked, item in _matched(text, questions)
    ]


def parse_iqa_answers(text: str, questions: Sequence[Question]) -> list[IQAAnswer]:
    """Read answers as `parse_t2ia_answers` does, each also with a yes or no, which is `correct` if it is the target.

    Raises:
        UnusableReply: as `parse_t2ia_answers`, or an answer says neither yes nor no.
    """
    found = []
    for asked, item in _matched(text, questions):
        answer = _yes_no(item, "answer")
        found.append(
            IQAAnswer(
                question=asked.question,
                target_answer=asked.answer,
                answer=answer,
                correct=answer == asked.answer,
                reasoning=_text(item, "reasoning", BOUNDS.reasoning),
                score=_score(item.get("score"), asked.question),
            )
        )
    return found


def _matched(text: str, questions: Sequence[Question]) -> list[tuple[Question, Json]]:
    """Each question with the reply's answer to it, one to one.

    Where several questions or several answers have the same key, none is matched by that key: nothing is guessed.
    """
    open_questions = dict(enumerate(questions))
    open_items = dict(enumerate(_member(extract_json(text), "answers")))
    said = {number: _text(item, "question", BOUNDS.question) for number, item in open_items.items()}
    found: dict[int, Json] = {}
    # From strict to loose: the text itself, its spelling, its words. A looser key is for what a stricter one left open.
    for key in (
        str,
        same_question,
        lambda text: " ".join(re.findall(r"\w+", same_question(text).replace("'", ""))),
    ):
        asked, given = defaultdict(list), defaultdict(list)
        for number, question in open_questions.items():
            asked[key(question.question)].append(number)
        for number in open_items:
            given[key(said[number])].append(number)
        for name, places in asked.items():
            if len(places) == len(given.get(name, ())) == 1:
                found[places[0]] = open_items.pop(given[name][0])
                del open_questions[places[0]]
    if open_items:
        other = next(iter(open_items))
        known = {same_question(question.question) for question in questions}
        what = "is answered twice" if same_question(said[other]) in known else "was not asked"
        raise UnusableReply(f"this question {what}: {_quote(said[other])}")
    if open_questions:
        first = next(iter(open_questions.values()))
        raise UnusableReply(
            f"{len(open_questions)} of {len(questions)} questions have no answer, among them {_quote(first.question)}"
        )
    return [(question, found[number]) for number, question in enumerate(questions)]


def _checked_questions(items: list[Any], most: int) -> list[Question]:
    found: dict[str, Question] = {}
    for item in items:
        question = " ".join(_text(item, "question", BOUNDS.question).split())
        found.setdefault(same_question(question), Question(question=question, answer=_yes_no(item, "answer")))
    found.pop("", None)
    if not found:
        raise UnusableReply("the reply holds no question")
    if len(found) > most:
        raise UnusableReply(f"the reply holds {len(found)} questions; at most {most} are wanted")
    return list(found.values())


def _member(value: Any, name: str) -> list[Any]:
    """The list under `name`, or the value itself where the teacher left the outer object out."""
    items = value.get(name) if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise UnusableReply(f'expected {{"{name}": [...]}}')
    return items


def _text(item: Any, name: str, most: int) -> str:
    if not isinstance(item, dict):
        raise UnusableReply(f"expected an object with {name!r}, found {_quote(item)}")
    return _plain(item.get(name), repr(name), most)


def _name(item: Any, name: str, most: int) -> str:
    if isinstance(item, dict) and type(item.get(name)) is int:  # ids are often numbers
        return str(item[name])
    return _text(item, name, most)


def _plain(value: Any, what: str, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UnusableReply(f"{what} is missing or empty")
    if len(value) > most:
        raise UnusableReply(f"{what} has {len(value)} characters; at most {most} are wanted")
    if contains_task_token(value):
        raise UnusableReply(f"{what} holds a reserved token")
    if half := half_character(value):
        raise UnusableReply(f"{what} holds {half}")
    return value.strip()


def _yes_no(item: Json, name: str) -> YesNo:
    value = item.get(name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    word = value.strip().strip(".!\"'").casefold() if isinstance(value, str) else ""
    if word in ("yes", "no"):
        return "yes" if word == "yes" else "no"
    raise UnusableReply(f"{name!r} of {_quote(item.get('question'))} is {_quote(value)}; expected yes or no")


def _score(value: Any, question: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[1-5]\s*", value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value in (1, 2, 3, 4, 5):
        return int(value)
    raise UnusableReply(f"the score of {_quote(question)} is {_quote(value)}; expected a whole number from 1 to 5")


def _quote(value: Any, most: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
