"""What a teacher's reply must hold: the JSON Schema that it is asked for, and the strict check of what came back."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
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
    """Schema of a reply with 1 to `most` questions."""
    return _object(questions=_questions(most))


def scene_schema(bounds: Bounds = BOUNDS) -> Json:
    """Schema of a reply with a scene graph and the quality questions made from it, in this order."""
    label = {"type": "string", "minLength": 1, "maxLength": bounds.label}
    attributes = {"type": "array", "items": label, "maxItems": bounds.attributes}
    node = _object(id=label, label=label, attributes=attributes)
    edge = _object(source=label, target=label, relationship=label)
    graph = _object(nodes=_array(node, bounds.nodes), edges=_array(edge, bounds.edges, fewest=0))
    return _object(scene_graph=graph, questions=_questions(bounds.quality))


def answers_schema(kind: Part, count: int) -> Json:
    """Schema of a reply with `count` answers; the reasoning is written before the verdict that it leads to."""
    answer: Json = {
        "question": {"type": "string", "minLength": 1, "maxLength": BOUNDS.question},
        "reasoning": {"type": "string", "minLength": 1, "maxLength": BOUNDS.reasoning},
    }
    if kind == "iqa":
        answer["answer"] = {"enum": ["yes", "no"]}
    answer["score"] = {"type": "integer", "minimum": 1, "maximum": 5}
    return _object(answers=_array(_object(**answer), count, fewest=count))


def _questions(most: int) -> Json:
    text = {"type": "string", "minLength": 1, "maxLength": BOUNDS.question}
    return _array(_object(question=text, answer={"enum": ["yes", "no"]}), most)


def _array(items: Json, most: int, fewest: int = 1) -> Json:
    return {"type": "array", "items": items, "minItems": fewest, "maxItems": most}


def _object(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Checks of what came back. They raise UnusableReply with a message that the teacher is told.


_FOLDED = str.maketrans(
    dict.fromkeys("‘’‚‛′´`ʼʹ“”„‟″«»‹›", "'")
    | {'"': "'"}
    | dict.fromkeys("‐‑‒–—―−⁃﹘", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", "")
)
"""Quotation marks, dashes, and letters without width."""


def same_question(text: str) -> str:
    """Key under which two spellings of a question are the same.

    Case, spaces, quotation marks, dashes, numbering and end marks do not count.
    """
    # Before NFKC too, which makes a space and an accent of a mark that stands alone.
    folded = unicodedata.normalize("NFKC", text.translate(_FOLDED)).translate(_FOLDED).casefold()
    plain = " ".join(re.sub(r"-(?:\s*-)+|\s+-\s+", "-", folded).split())
    plain = re.sub(r"^(?:\W*\d+[.):]\s+)?(?:\[(?:expected: )?(?:yes|no)\]\s*)?", "", plain)
    return plain.strip(" '?.!*:")


def _words(text: str) -> str:
    """The words of a question: what is left where somebody adds or leaves out marks."""
    return " ".join(re.findall(r"\w+", same_question(text).replace("'", "")))


def parse_questions(text: str, most: int) -> list[Question]:
    """Questions with their target answers from a reply; a question asked twice is kept once.

    Raises UnusableReply when there are none or more than `most`, or when one lacks its text or a yes/no answer.
    """
    return _checked_questions(_member(extract_json(text), "questions"), most)


def parse_scene(text: str, bounds: Bounds = BOUNDS) -> tuple[SceneGraph, list[Question]]:
    """Scene graph and quality questions from a reply. Raises UnusableReply when a part is missing or does not fit."""
    value = extract_json(text)
    graph = value.get("scene_graph") if isinstance(value, dict) else None
    if not isinstance(graph, dict):
        raise UnusableReply('expected {"scene_graph": {...}, "questions": [...]}')
    return _checked_graph(graph, bounds), _checked_questions(_member(value, "questions"), bounds.quality)


def parse_t2ia_answers(text: str, questions: Sequence[Question]) -> list[T2IAAnswer]:
    """Answers to `questions` in their order, matched by the text of the question.

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
    """As `parse_t2ia_answers`, where each answer also says yes or no, which is correct or not. Raises UnusableReply."""
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
    """Each question with what the reply says to it, one to one.

    To the letter where that can be; of what is left by `same_question`, then by words alone. Where several questions
    or answers look the same in the end, nothing is guessed.
    """
    open_questions = dict(enumerate(questions))
    open_items = dict(enumerate(_member(extract_json(text), "answers")))
    said = {number: _text(item, "question", BOUNDS.question) for number, item in open_items.items()}
    found: dict[int, Json] = {}
    for key in (str, same_question, _words):
        asked = _by_key({number: question.question for number, question in open_questions.items()}, key)
        given = _by_key({number: said[number] for number in open_items}, key)
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


def _by_key(texts: Mapping[int, str], key: Callable[[str], str]) -> dict[str, list[int]]:
    """Numbers of the texts that have a key in common."""
    found: dict[str, list[int]] = {}
    for number, text in texts.items():
        found.setdefault(key(text), []).append(number)
    return found


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


def _checked_graph(graph: Json, bounds: Bounds) -> SceneGraph:
    nodes = [_checked_node(node, bounds) for node in _items(graph, "nodes", bounds.nodes)]
    ids = {node.id for node in nodes}
    if not nodes or len(ids) < len(nodes):
        raise UnusableReply("the scene graph needs at least one node, and every node an id of its own")
    edges = []
    for edge in _items(graph, "edges", bounds.edges):
        source, target, relationship = (
            _name(edge, name, bounds.label) for name in ("source", "target", "relationship")
        )
        if not {source, target} <= ids:
            raise UnusableReply(f"an edge joins {source!r} and {target!r}; not both are nodes")
        edges.append(Edge(source=source, target=target, relationship=relationship))
    return SceneGraph(nodes=tuple(nodes), edges=tuple(edges))


def _checked_node(node: Any, bounds: Bounds) -> Node:
    name, label = _name(node, "id", bounds.label), _name(node, "label", bounds.label)
    attributes = node.get("attributes", [])
    if isinstance(attributes, dict):  # {"colour": "red"}: some teachers insist on names
        attributes = [f"{key}: {value}" for key, value in attributes.items()]
    if not isinstance(attributes, list) or len(attributes) > bounds.attributes:
        raise UnusableReply(f"node {name!r}: attributes is a list of at most {bounds.attributes} strings")
    kept = [_plain(item, f"an attribute of node {name!r}", bounds.label) for item in attributes]
    return Node(id=name, label=label, attributes=tuple(kept))


def _member(value: Any, name: str) -> list[Any]:
    """The list under `name`, or the value itself where the teacher left the outer object out."""
    items = value.get(name) if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise UnusableReply(f'expected {{"{name}": [...]}}')
    return items


def _items(graph: Json, name: str, most: int) -> list[Any]:
    items = graph.get(name)
    if not isinstance(items, list) or len(items) > most:
        raise UnusableReply(f"scene_graph.{name} is a list of at most {most} objects")
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
