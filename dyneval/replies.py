"""The JSON of the student's replies: written for training, described by a schema for decoding, read after it.

    from dyneval.replies import ReplyLimits, read_questions, questions_schema

    schema = questions_schema(ReplyLimits(questions=10))
    questions = read_questions('[{"question": "Is there a cat?", "answer": "yes"}]')

No other module knows this JSON. Every text that a schema admits can be read here, and training text is written in the
order of keys that decoding is held to; if these three disagreed, replies would be lost or scores be read wrongly.

`<|EVALUATION|>` is answered in one of two forms. A student learned one of them from its training data:

    readme         {"answers": [{"question", "score", "reasoning"}]}
    release T2IA   {"answers": [{"question", "target_answer", "reasoning", "score"}], "score": rounded mean}
    release IQA    {"answers": [{"question", "answer", "target_answer", "correct", "reasoning"}], "score": 1-5}

`readme` is what the published README shows. `release` is what the published builder writes; its IQA score is holistic:
one number for the image, not a mean over questions. The human turn is the same for all three, so a student of the
release form must tell from the questions which of its two shapes to write.

Replies to `<|T2IA|>` and `<|IQA|>` have one form: a list of questions, and a scene graph with a list of questions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

import msgspec
from msgspec import Meta, Struct

from dyneval.errors import SettingError
from dyneval.records import MaybeYesNo, Part, YesNo, student_json
from dyneval.scene_graphs import normalised_graph

ReplyForm = Literal["readme", "release"]
REPLY_FORMS: tuple[ReplyForm, ...] = get_args(ReplyForm)
DEFAULT_FORM: ReplyForm = "readme"
AnyForm = Literal["readme", "release", "either"]
"""A form, or "either": the schema admits both and the student chooses."""
RATINGS = (1, 2, 3, 4, 5)
Json = dict[str, Any]

_Rating = Annotated[int, Meta(ge=1, le=5)]


class ReplyError(ValueError):
    """A reply does not have the form that was asked for; the message says where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyLimits:
    """Upper bounds on the lists and texts of a reply, which the schema enforces; None: only the token budget bounds it.

    Without bounds a student may write whatever it was trained to write, a scene graph of any shape too. Bounds end the
    reply of a student that never closes a list or a text. With any of the last four, a scene graph is held to nodes
    (id, label, attributes) and edges (source, target, relationship). All are at least 1: items of a list, or
    characters for those called `_chars`.
    """

    questions: int | None = None
    question_chars: int | None = None
    reasoning_chars: int | None = None
    nodes: int | None = None
    edges: int | None = None
    attributes: int | None = None
    label_chars: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise SettingError(f"limit {name} is {value}, expected at least 1")

    def capped(self, items: int | None = None, chars: int | None = None) -> Self:
        """The same limits with every count at most `items` and every text length at most `chars`.

        Args:
            items: of a list, at least 1; None leaves the counts as they are.
            chars: characters of a text, at least 1; None leaves the lengths as they are.

        Raises:
            SettingError: one of them is below 1.
        """
        caps = {name: chars if name.endswith("_chars") else items for name in asdict(self)}
        smaller = {
            name: min(filter(None.__ne__, (value, caps[name])), default=None) for name, value in asdict(self).items()
        }
        for name, cap in caps.items():
            if cap is not None and cap < 1:
                raise SettingError(f"limit {name} is {cap}, expected at least 1")
        return type(self)(**smaller)

    # A list or text that is exactly as long as its limit was probably cut: the schema did not let the student go on.

    def reached_by_questions(self, questions: Sequence[QuestionItem]) -> bool:
        """True when the list of questions, or one of them, reached its limit."""
        return _reached(self.questions, [questions]) or _reached(
            self.question_chars, [question.question for question in questions]
        )

    def reached_by_reasons(self, evaluated: ParsedEvaluation) -> bool:
        """True when a reasoning reached its limit."""
        return _reached(self.reasoning_chars, [rated.reasoning for rated in evaluated.questions])

    def reached_by_graph(self, graph: Json) -> bool:
        """True when a list or text of a scene graph in the documented shape reached its limit."""
        attributes = [node["attributes"] for node in graph["nodes"]]
        words = [*(node["label"] for node in graph["nodes"]), *(edge["relationship"] for edge in graph["edges"])]
        return (
            _reached(self.nodes, [graph["nodes"]])
            or _reached(self.edges, [graph["edges"]])
            or _reached(self.attributes, attributes)
            or _reached(self.label_chars, [*words, *(word for of_node in attributes for word in of_node)])
        )


def _reached(most: int | None, found: Iterable[Sized]) -> bool:
    return most is not None and any(len(one) >= most for one in found)


# --------------------------------------------------------------------------------------------------------------------
# Shapes. The order of the fields is the order of the keys in training text and in schemas. It decides what a score can
# rest on: a student that writes the score first has not yet written its reason.


class QuestionItem(Struct, forbid_unknown_fields=True, gc=False):
    """A question and the answer that a flawless image gives."""

    question: str
    answer: YesNo


class ReadmeAnswer(Struct, forbid_unknown_fields=True, gc=False):
    """An answer of the readme form: the score comes before the reasoning."""

    question: str
    score: _Rating
    reasoning: str


class ReleaseAnswer(Struct, forbid_unknown_fields=True, gc=False):
    """An alignment answer of the release form: the reasoning comes before the score."""

    question: str
    target_answer: MaybeYesNo
    reasoning: str
    score: _Rating


class ReleaseQualityAnswer(Struct, forbid_unknown_fields=True, gc=False):
    """A quality answer of the release form; it has no score of its own."""

    question: str
    answer: MaybeYesNo
    target_answer: MaybeYesNo
    correct: bool
    reasoning: str


class ReadmeEvaluation(Struct, forbid_unknown_fields=True, gc=False):
    """Reply to EVALUATION in the readme form."""

    answers: list[ReadmeAnswer]


class ReleaseEvaluation(Struct, forbid_unknown_fields=True, gc=False):
    """Reply to EVALUATION on alignment questions in the release form."""

    answers: list[ReleaseAnswer]
    score: _Rating


class ReleaseQualityEvaluation(Struct, forbid_unknown_fields=True, gc=False):
    """Reply to EVALUATION on quality questions in the release form."""

    answers: list[ReleaseQualityAnswer]
    score: _Rating


class SceneReply(Struct, forbid_unknown_fields=True, gc=False):
    """Reply to IQA; the scene graph has whatever shape the student gave it."""

    scene_graph: dict[str, Any] | list[Any]
    questions: list[QuestionItem]


class GraphNode(Struct, forbid_unknown_fields=True, gc=False):
    """A thing in the image."""

    id: str
    label: str
    attributes: list[str]


class GraphEdge(Struct, forbid_unknown_fields=True, gc=False):
    """How two things in the image relate; source and target are ids of nodes."""

    source: str
    target: str
    relationship: str


class ReplyGraph(Struct, forbid_unknown_fields=True, gc=False):
    """A scene graph in the documented shape."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]


Evaluation = ReadmeEvaluation | ReleaseEvaluation | ReleaseQualityEvaluation
_SHAPES: dict[tuple[ReplyForm, Part], type[Evaluation]] = {
    ("readme", "t2ia"): ReadmeEvaluation,
    ("readme", "iqa"): ReadmeEvaluation,
    ("release", "t2ia"): ReleaseEvaluation,
    ("release", "iqa"): ReleaseQualityEvaluation,
}
_ITEMS: dict[type[Evaluation], type[Struct]] = {
    ReadmeEvaluation: ReadmeAnswer,
    ReleaseEvaluation: ReleaseAnswer,
    ReleaseQualityEvaluation: ReleaseQualityAnswer,
}


# --------------------------------------------------------------------------------------------------------------------
# Writing: training text.


def write(form: ReplyForm, part: Part, answers: Sequence[Any], holistic: float | None = None) -> str:
    """Text of the reply to EVALUATION that a student is trained to write.

    Args:
        form: shape of the reply.
        part: what was asked about.
        answers: at least one object with `question`, `reasoning`, `score` (1-5; not read for IQA in the release form)
            and, in the release form, `target_answer` ("yes", "no" or ""); there IQA also needs `answer` (likewise) and
            `correct` (true or false).
        holistic: score of the image, 1-5; needed for IQA in the release form, where it is rounded half to even, as
            the published builder does.

    Raises:
        ValueError: there are no answers, or `holistic` is missing.
    """
    if not answers:
        raise ValueError("an evaluation needs at least one answer")
    if form == "readme":
        return student_json(ReadmeEvaluation([ReadmeAnswer(one.question, one.score, one.reasoning) for one in answers]))
    if part == "t2ia":
        items = [ReleaseAnswer(one.question, one.target_answer, one.reasoning, one.score) for one in answers]
        # Python rounds half to even, here and below: 2.5 becomes 2, as in the published training data.
        return student_json(ReleaseEvaluation(items, round(sum([one.score for one in answers]) / len(answers))))
    if holistic is None:
        raise ValueError("IQA in the release form needs the score of the image")
    quality = [
        ReleaseQualityAnswer(one.question, one.answer, one.target_answer, one.correct, one.reasoning) for one in answers
    ]
    return student_json(ReleaseQualityEvaluation(quality, round(holistic)))


def write_questions(questions: Sequence[Any]) -> str:
    """Text of the reply to T2IA, from objects with `question` and `answer` ("yes" or "no").

    Raises:
        SchemaError: a text holds half a character (a lone surrogate).
    """
    return student_json([QuestionItem(one.question, one.answer) for one in questions])


def write_scene(scene_graph: Any, questions: Sequence[Any]) -> str:
    """Text of the reply to IQA, from a scene graph of any shape and objects with `question` and `answer`.

    Raises:
        SchemaError: a text holds half a character (a lone surrogate).
    """
    return student_json(SceneReply(scene_graph, [QuestionItem(one.question, one.answer) for one in questions]))


# --------------------------------------------------------------------------------------------------------------------
# JSON Schemas that decoding is held to.


def questions_schema(limits: ReplyLimits) -> Json:
    """JSON Schema of the reply to T2IA: a list of at least one question.

    Args:
        limits: `questions` and `question_chars` count here.
    """
    item = _definition(QuestionItem)
    item["properties"]["question"] = _text(limits.question_chars, least=1)
    return _list(item, limits.questions, least=1)


def scene_schema(limits: ReplyLimits) -> Json:
    """JSON Schema of the reply to IQA. The scene graph may be any object or list unless `limits` bound it."""
    schema = _definition(SceneReply)
    schema["properties"]["questions"] = questions_schema(limits)
    if not any((limits.nodes, limits.edges, limits.attributes, limits.label_chars)):
        schema["properties"]["scene_graph"] = {"type": ["object", "array"]}
        return schema
    node, edge, graph = _definition(GraphNode), _definition(GraphEdge), _definition(ReplyGraph)
    for definition in (node, edge):
        for name in definition["properties"]:
            definition["properties"][name] = _text(limits.label_chars, least=1)
    node["properties"]["attributes"] = _list(_text(limits.label_chars, least=1), limits.attributes)
    graph["properties"] = {"nodes": _list(node, limits.nodes), "edges": _list(edge, limits.edges)}
    schema["properties"]["scene_graph"] = graph
    return schema


def evaluation_schema(
    form: AnyForm, part: Part, questions: Sequence[str], limits: ReplyLimits, reasoning: bool = True
) -> Json:
    """JSON Schema of the reply to EVALUATION, which repeats the questions word for word, in order.

    Args:
        form: "either" admits all shapes for both parts: where the form is not certain, it is not certain either that
            the student tells the parts apart as we do.
        part: what is asked about.
        questions: at least one.
        limits: bounds of the texts.
        reasoning: False leaves a reasoning empty where it follows its score. Where it comes before the score it stays,
            because the score rests on it.

    Raises:
        ValueError: there are no questions.
    """
    if not questions:
        raise ValueError("an evaluation needs at least one question")
    if form == "either":
        shapes: Sequence[type[Evaluation]] = (ReadmeEvaluation, ReleaseEvaluation, ReleaseQualityEvaluation)
    else:
        shapes = (_SHAPES[form, part],)
    schemas = []
    for shape in shapes:
        schema, item = _definition(shape), _definition(_ITEMS[shape])
        item["properties"]["reasoning"] = _text(limits.reasoning_chars)
        if not reasoning and shape is ReadmeEvaluation:
            item["properties"]["reasoning"] = {"const": ""}
        fields = item["properties"]
        items = [{**item, "properties": {**fields, "question": {"const": question}}} for question in questions]
        schema["properties"]["answers"] = {
            "type": "array",
            "minItems": len(items),
            "maxItems": len(items),  # says the same as "items": false, which llama.cpp does not accept
            "prefixItems": items,
        }
        schemas.append(schema)
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _text(most: int | None, least: int = 0) -> Json:
    bounds = {"minLength": least or None, "maxLength": most}
    return {"type": "string"} | {name: bound for name, bound in bounds.items() if bound is not None}


def _list(items: Json, most: int | None, least: int = 0) -> Json:
    bounds = {"minItems": least or None, "maxItems": most}
    return {"type": "array", "items": items} | {name: bound for name, bound in bounds.items() if bound is not None}


def _definition(shape: type[Struct]) -> Json:
    """A copy of a shape's JSON Schema, for the caller to change; it replaces what refers to other shapes.

    Title and description are left out: they would be sent to servers with every request.
    """
    definition: Json = copy.deepcopy(_definitions()[shape.__name__])
    return {key: value for key, value in definition.items() if key not in ("title", "description")}


@cache
def _definitions() -> Json:
    # Kept, since msgspec takes 15 times as long to make a schema as it takes to copy one.
    shapes = [*_SHAPES.values(), *_ITEMS.values(), SceneReply, QuestionItem, ReplyGraph]
    return msgspec.json.schema_components(shapes)[1]


# --------------------------------------------------------------------------------------------------------------------
# Reading.


class RatedQuestion(NamedTuple):
    """The student's rating of one question."""

    score: int
    """1-5. A quality answer of the release form has none of its own: 5 where it is correct, else 1."""
    soft_score: float
    """1-5, the expectation of the score under its probabilities."""
    reasoning: str
    correct_probability: float | None = None
    """For a quality answer of the release form: how sure the student is that the image passes, 0-1."""


class ParsedEvaluation(NamedTuple):
    """What a reply to EVALUATION says."""

    form: ReplyForm
    questions: list[RatedQuestion]
    holistic: int | None = None
    """The student's score of the whole, 1-5; only in the release form."""
    soft_holistic: float | None = None
    """1-5, the expectation of that score."""

    @property
    def is_holistic(self) -> bool:
        """True when the score of the whole is the only score, because the questions have none of their own."""
        return any(one.correct_probability is not None for one in self.questions)


class ParsedScene(NamedTuple):
    """What a reply to IQA says."""

    graph: Json
    """The scene graph in the documented shape, see `dyneval.scene_graphs`."""
    raw_graph: Any
    """The graph as the student wrote it, where it has another shape; else None."""
    questions: list[QuestionItem]


def read_questions(text: str) -> list[QuestionItem]:
    """Read a reply to T2IA. Raises ReplyError."""
    return _decoded(text, list[QuestionItem])


def read_scene(text: str) -> ParsedScene:
    """Read a reply to IQA. Raises ReplyError."""
    reply = _decoded(text, SceneReply)
    graph = normalised_graph(reply.scene_graph)
    return ParsedScene(graph, None if graph == reply.scene_graph else reply.scene_graph, reply.questions)


def read_evaluation(text: str, questions: Sequence[str], probabilities: Sequence[Sequence[float]]) -> ParsedEvaluation:
    """Read a reply to EVALUATION, in whichever form it is.

    Args:
        text: the reply.
        questions: the questions that were asked.
        probabilities: for each verdict in the reply, in the order of the text: for a score the probabilities of 1 to 5,
            for `correct` those of true and false. Each adds up to 1.

    Raises:
        ReplyError: it has none of the forms, answers other questions, or a verdict has no probabilities.
    """
    reply = _evaluation_of(text)
    if [answer.question for answer in reply.answers] != list(questions):
        raise ReplyError("the reply answers other questions than were asked")
    verdicts = len(questions) + (not isinstance(reply, ReadmeEvaluation))
    if len(probabilities) != verdicts:
        raise ReplyError(f"{len(probabilities)} of {verdicts} verdicts have probabilities")
    # The release form ends with the score of the whole, and so do its probabilities.
    if isinstance(reply, ReleaseQualityEvaluation):
        rated = [
            RatedQuestion(5 if answer.correct else 1, 1 + 4 * weights[0], answer.reasoning, weights[0])
            for answer, weights in zip(reply.answers, probabilities[:-1], strict=True)
        ]
    else:
        answers: Sequence[ReadmeAnswer | ReleaseAnswer] = reply.answers
        rated = [
            RatedQuestion(answer.score, expectation(weights), answer.reasoning)
            for answer, weights in zip(answers, probabilities[: len(questions)], strict=True)
        ]
    if isinstance(reply, ReadmeEvaluation):
        return ParsedEvaluation("readme", rated)
    return ParsedEvaluation("release", rated, reply.score, expectation(probabilities[-1]))


def form_of(text: str) -> ReplyForm | None:
    """The form of a stored reply to EVALUATION; None where it has neither."""
    try:
        return "readme" if isinstance(_evaluation_of(text), ReadmeEvaluation) else "release"
    except ReplyError:
        return None


def expectation(probabilities: Sequence[float]) -> float:
    """Mean score, 1-5, under the probabilities of the scores 1 to 5, which add up to 1."""
    mean = sum(score * weight for score, weight in zip(RATINGS, probabilities, strict=True))
    return min(max(mean, RATINGS[0]), RATINGS[-1])  # sums of floats can end at 5.000000001, which a record refuses


def _evaluation_of(text: str) -> Evaluation:
    """Read a reply in the shape whose keys it has. Raises ReplyError, whose message is about that shape."""
    # By its keys, not by trying all shapes: the error of the last one tried would say nothing about this reply. A quote
    # inside of a text stands behind a backslash, so no question or reasoning can hold these strings.
    shape: type[Evaluation] = ReadmeEvaluation
    if '"target_answer":' in text:
        shape = ReleaseQualityEvaluation if '"correct":' in text else ReleaseEvaluation
    return _decoded(text, shape)


def _decoded(text: str, shape: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ReplyError(f"the reply does not have its form ({error})") from None


# --------------------------------------------------------------------------------------------------------------------
# Keys of scores.

# All replies had these limits before lists and texts could go without. The key of a score names them where there are
# none, so that records that never came near them stay current.
_FORMER_LIMITS = {
    "questions": 160,
    "nodes": 64,
    "edges": 128,
    "attributes": 16,
    "question_chars": 300,
    "label_chars": 80,
    "reasoning_chars": 800,
}


def as_in_key(score_settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change scores, as they go into a record's key; scores compare where these are equal.

    A setting that older versions did not have is left out at the value that they used.
    """
    chosen = {**score_settings, "limits": _FORMER_LIMITS | score_settings.get("limits", {})}
    if chosen.get("reply_form") == DEFAULT_FORM:
        del chosen["reply_form"]
    return chosen
