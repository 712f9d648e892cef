"""Every record that is written to a file between two steps: one type each, used to read, check and document it.

    PromptRecord -> PairRecord -> T2IAQuestions, T2IAAnswers, IQAQuestions, IQAAnswers -> InstructSample -> ScoreRecord

`python -m dyneval.records` writes their JSON Schemas into `dyneval/schemas/`; a test compares the two. A row may hold
more than its record: unknown keys are skipped. A field that changes its name or meaning here makes the files of
finished runs unreadable, or silently wrong.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta, Raw, Struct, field

from dyneval.errors import SchemaError
from dyneval.hashing import short_id
from dyneval.structs import Record, Row, Value

# ---------------------------------------------------------------------------------------------------------------------
# What fields may hold. Patterns end in \Z: in Python's expressions $ also matches before a last line feed.

Text = Annotated[str, Meta(min_length=1)]
PairId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", description="fit for a file name")]
OwnPromptId = Annotated[str, Meta(pattern=r"^P[0-9a-f]{16}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
ImageSha256 = (
    Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="of the image file that the teacher was shown")] | None
)
YesNo = Literal["yes", "no"]
MaybeYesNo = Literal["yes", "no", ""]
"""In answers of the published data set: empty where the teacher's reply did not say."""
Tier = Literal[1, 2, 3]
TIERS: tuple[Tier, ...] = get_args(Tier)
Rating = Annotated[int, Meta(ge=1, le=5, description="of one question; 5 is best")]
MeanRating = Annotated[float, Meta(ge=1, le=5)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]
Factor = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0, description="seconds")]
Pixels = Annotated[int, Meta(ge=1, description="pixels")]
Names = Annotated[tuple[Text, ...], Meta(extra_json_schema={"uniqueItems": True})]
Part = Literal["t2ia", "iqa"]
"""What a score is about: alignment with the prompt (t2ia) or the quality of the image (iqa)."""
PARTS: tuple[Part, ...] = get_args(Part)
ScoreName = Literal["t2ia", "iqa", "overall"]
SCORE_NAMES: tuple[ScoreName, ...] = get_args(ScoreName)
_SCORE_NAMES = {"propertyNames": {"enum": list(SCORE_NAMES)}}

Workflow = Literal["t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers"]
"""What a teacher is asked for. Each workflow has a record and a file with its name."""
WORKFLOWS: tuple[Workflow, ...] = get_args(Workflow)


def prompt_id(prompt: str) -> str:
    """Id of a prompt, which depends on its text alone: "P" and 16 hex digits."""
    return "P" + short_id(prompt)


def pair_id(prompt_id: str, generation_model: str) -> str:
    """Id of the image that `generation_model` makes for a prompt; usable as a file name."""
    return f"{prompt_id}-{generation_model}"


def normalised_score(score: float) -> float:
    """Map a score from 1-5 to 0-1: (score - 1) / 4, as in the paper."""
    return (score - 1) / 4


def student_json(value: Any) -> str:
    r"""JSON as the student writes it: one line, ", " and ": " as separators, text as it is (no \u escapes).

    Training answers are written with this function, and the scorer's grammar admits exactly this form. The bytes are
    those of `json.dumps(value, ensure_ascii=False)`, in a third of its time.

    Args:
        value: what JSON can hold; msgspec's Structs are written as objects.

    Raises:
        SchemaError: a text holds half a character (a lone surrogate).
    """
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    except UnicodeEncodeError as error:
        raise SchemaError(f"cannot be written as JSON: {error}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Steps 1 and 2.


class Factors(Value, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """The nine counts from which the complexity of a prompt is made, each scaled, 0 or more."""

    prompt_length: Factor
    object_attribute_count: Factor
    compositional_density: Factor
    artist_style_attribution: Factor
    technical_rendering: Factor
    detail_descriptors: Factor
    style_keywords: Factor
    color_specifications: Factor
    relational_expressions: Factor


class PromptRecord(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A prompt with its complexity, tier and sub-categories (Step 1 -> Step 2)."""

    KEY = "prompt_id"
    DISTINCT = ("categories",)
    prompt_id: OwnPromptId
    prompt: Text
    complexity: Annotated[float, Meta(ge=0, description="H, no unit")]
    factors: Factors
    tier: Tier
    categories: Names
    source: Text


class PairRecord(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """An image, the prompt it was made from, and how: a line of metadata.jsonl (Step 2 -> Step 3).

    `tier` is None where nobody knows which model made the image. `seed` is None where the model takes none, or where
    the image came without one. `settings` says how the image was made. Every key of it is optional, since images also
    come from elsewhere. Ours are: fingerprint (hash of what was asked of the model; a folder does not mix two), family,
    repo, variant, preset, base_seed, requested_revision, revision (commit that was loaded), versions, dtype, device,
    arguments (of the model's call), prompt_suffix, prompt_sent (the text that the model was given), seconds, safety
    (the model's own flag), sidecars (suffixes of files beside the image), details (cost, token usage).
    """

    KEY = "pair_id"
    FREE = frozenset({"settings"})
    DISTINCT = ("categories",)
    pair_id: PairId
    file_name: Annotated[str, Meta(min_length=1, description="image path relative to the folder of metadata.jsonl")]
    prompt_id: Text
    prompt: Text
    tier: Tier | None = None
    categories: Names
    generation_model: Text
    seed: Annotated[int, Meta(ge=0, description="what the model's random generator started from")] | None = None
    width: Pixels
    height: Pixels
    settings: dict[str, Any]
    sha256: Sha256


# ---------------------------------------------------------------------------------------------------------------------
# Step 3. The published data set has the same rows with less in them: answers without `correct` or a score, scene graphs
# of any shape. So these fields are optional, although our own teacher fills them all.


class Question(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A yes/no question and the answer that a flawless image gives."""

    question: Text
    answer: YesNo
    kind: Literal["alignment", "distortion", "quality"] | None = None


class T2IAAnswer(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """An alignment question answered about an image."""

    question: Text
    target_answer: MaybeYesNo
    reasoning: Text
    score: Rating


class IQAAnswer(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A quality question answered about an image."""

    question: Text
    target_answer: MaybeYesNo
    answer: MaybeYesNo
    correct: bool | None
    """Whether `answer` is the target; None where that is not known."""
    reasoning: Text
    score: Annotated[int, Meta(ge=1, le=5, description="absent in the published data set")] | None = None

    @property
    def rating(self) -> int | None:
        """Its score, 1-5; without one, 5 for a correct answer and 1 for a wrong one; None where neither is known."""
        if self.score is not None:
            return self.score
        # As the published code makes scores of answers that have none.
        return None if self.correct is None else 5 if self.correct else 1


class Usage(Value, frozen=True, kw_only=True, gc=False, omit_defaults=False):
    """Tokens that a request to the teacher and its reply took."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class Provenance(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Who made a row, and how."""

    model: Text
    engine: Text
    prompt_version: Text
    attempts: Annotated[int, Meta(ge=1)]
    usage: Usage | None = None
    created: Annotated[str, Meta(description="RFC 3339, UTC")]


class T2IAQuestions(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Alignment and distortion questions about a prompt, in one list; all images of the prompt share them."""

    KEY = "prompt_id"
    prompt_id: Text
    prompt: Text
    questions: Annotated[tuple[Question, ...], Meta(min_length=1)]
    provenance: Provenance


class T2IAAnswers(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The answers to a prompt's T2IA questions about one image."""

    KEY = "pair_id"
    pair_id: Text
    prompt: Text
    image_sha256: ImageSha256 = None
    answers: Annotated[tuple[T2IAAnswer, ...], Meta(min_length=1)]
    provenance: Provenance
    raw_response: str | None = None


class IQAQuestions(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The scene graph of an image and the quality questions made from it.

    The graph is kept as its bytes in the file: that is exact for every shape, and faster than typed nodes. Our teacher
    is held to nodes (id, label, attributes) and edges (source, target, relationship); published graphs are objects or
    lists of any shape (`dyneval.scene_graphs.normalised_graph` reads them).
    """

    KEY = "pair_id"
    FREE = frozenset({"scene_graph"})
    RULES: ClassVar[Row] = {
        "properties": {
            "scene_graph": {
                "type": ["object", "array"],
                "minProperties": 1,
                "minItems": 1,
                "not": {"required": ["raw_response"], "maxProperties": 1, "type": "object"},
            }
        }
    }
    pair_id: Text
    prompt: Text
    image_sha256: ImageSha256 = None
    scene_graph: Annotated[Raw, Meta(description="as the teacher wrote it; an unread reply (raw_response) is no graph")]
    questions: Annotated[tuple[Question, ...], Meta(min_length=1)]
    provenance: Provenance

    def check(self) -> None:
        """Raise ValueError where there is no scene graph."""
        # On the bytes: to parse every graph, only to see that it is not empty, would be work for nothing.
        graph = bytes(self.scene_graph)
        if graph[:1] not in (b"{", b"[") or not graph[1:-1].strip():
            raise ValueError("the scene graph is no object or list, or empty")
        if graph[:1] == b"{" and b'"raw_response"' in graph and json.loads(graph).keys() == {"raw_response"}:
            raise ValueError("a reply that could not be read stands in the place of the scene graph")

    @property
    def graph(self) -> Any:
        """The scene graph as plain JSON values."""
        return json.loads(bytes(self.scene_graph))

    @property
    def nodes(self) -> int:
        """Number of nodes of the scene graph; a bare list is taken as the list of nodes. 0 where there are none."""
        graph = bytes(self.scene_graph)
        try:
            return len(_LIST.decode(graph) if graph[:1] == b"[" else _NODES.decode(graph).nodes)
        except msgspec.MsgspecError:
            return 0


class _Nodes(Struct, gc=False):
    nodes: list[Raw]


_NODES, _LIST = msgspec.json.Decoder(_Nodes), msgspec.json.Decoder(list[Raw])


class IQAAnswers(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The answers to an image's quality questions.

    `score` is their mean, 1-5; in published data it is the teacher's score of the whole image.
    """

    KEY = "pair_id"
    pair_id: Text
    prompt: Text
    image_sha256: ImageSha256 = None
    answers: Annotated[tuple[IQAAnswer, ...], Meta(min_length=1)]
    score: MeanRating | None = None
    provenance: Provenance

    def check(self) -> None:
        """Raise ValueError where `correct` contradicts its answer."""
        for number, answer in enumerate(self.answers):
            is_known = answer.correct is not None and answer.answer and answer.target_answer
            if is_known and answer.correct != (answer.answer == answer.target_answer):
                raise ValueError(
                    f"answers[{number}]: correct is {answer.correct}, while the answer is {answer.answer} and "
                    f"{answer.target_answer} is right"
                )


Annotation = T2IAQuestions | T2IAAnswers | IQAQuestions | IQAAnswers
"""What a teacher said about a prompt or an image."""
ANNOTATIONS: dict[Workflow, type[Annotation]] = {
    "t2ia_questions": T2IAQuestions,
    "t2ia_answers": T2IAAnswers,
    "iqa_questions": IQAQuestions,
    "iqa_answers": IQAAnswers,
}
NEEDS: dict[Workflow, Workflow] = {"t2ia_answers": "t2ia_questions", "iqa_answers": "iqa_questions"}
"""Workflows that need the records of another one: a teacher answers the questions that were asked before."""


def key_of(name: Workflow, pair: PairRecord) -> str:
    """Key of a pair's record in the file of a workflow: the pair's own, or that which all images of a prompt share."""
    return pair.prompt_id if ANNOTATIONS[name].KEY == "prompt_id" else pair.pair_id


# ---------------------------------------------------------------------------------------------------------------------
# Steps 4 and 5.


class Turn(Value, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True, rename={"speaker": "from"}):
    """A turn of a conversation."""

    speaker: Literal["human", "gpt"]
    value: Text


class InstructSample(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """One training sample in the Qwen-VL format: a human turn that begins with a task token, and the answer to it."""

    KEY = "id"
    RULES: ClassVar[Row] = {
        "properties": {
            # Behind allOf: beside `prefixItems`, `items` would apply only to what comes after the two turns.
            "conversations": {
                "allOf": [{"prefixItems": [{"properties": {"from": {"const": name}}} for name in ("human", "gpt")]}]
            }
        }
    }
    conversations: Annotated[tuple[Turn, ...], Meta(min_length=2, max_length=2)]
    image: Annotated[str, Meta(min_length=1, description="path below DYNEVALINSTRUCT_*_DATA")] | None = None
    id: Annotated[str, Meta(min_length=1, description="pair_id or prompt_id and the task, for messages")] | None = None

    def check(self) -> None:
        """Raise ValueError where the turns are in the wrong order."""
        if [turn.speaker for turn in self.conversations] != ["human", "gpt"]:
            raise ValueError("conversations: expected a turn from human, then one from gpt")


class Node(Value, frozen=True, kw_only=True, gc=False):
    """A thing in the image."""

    id: Text
    label: Text
    attributes: tuple[Text, ...]


class Edge(Value, frozen=True, kw_only=True, gc=False):
    """How two things in the image relate; source and target are ids of nodes."""

    source: Text
    target: Text
    relationship: Text


class SceneGraph(Value, frozen=True, kw_only=True, gc=False):
    """The things in the image and how they relate, in the documented shape."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class ScoredQuestion(Value, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A question as the student rated it."""

    question: Text
    answer: YesNo | None = None
    score: Rating
    soft_score: Annotated[float, Meta(ge=1, le=5, description="expectation of the score")] | None = None
    reasoning: str
    correct_probability: (
        Annotated[
            float,
            Meta(
                ge=0,
                le=1,
                description="how sure the student is that the image passes, where it gives no score a question "
                "(IQA in the reply form release): score is then 5 or 1",
            ),
        ]
        | None
    ) = None


class ScoreRecord(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The student's scores of a pair, 1-5 (higher is better), the same normalised to 0-1, and the answers behind them.

    `t2ia`, `iqa` and `overall` are made from the whole ratings of the questions, as the student was trained to write
    them. `soft` holds the same made from the expectation of each rating, which ties less (`benchmarks/README.md`).
    A student of the release form also scores each part as a whole (`holistic`): that is its IQA score; for T2IA it is
    the rounded mean. `raw_scene_graph` is the graph as the student wrote it, where it has another shape; `cut` names
    the passes whose reply reached a limit on lists or texts.
    `settings`: what the scores depend on beside model and template; `revision`: the model's Hub commit, or a hash of
    its weights; `key`: a hash of all that and of image and prompt, so that equal keys mean the same result. When only
    one part was scored, the other part and `overall` are None.
    """

    KEY = "pair_id"
    FREE = frozenset({"settings", "raw_scene_graph"})
    DISTINCT = ("cut",)
    RULES: ClassVar[Row] = {
        "anyOf": [{"required": ["t2ia", "t2ia_questions"]}, {"required": ["iqa", "iqa_questions", "scene_graph"]}],
        "dependentRequired": {"overall": ["t2ia", "iqa"]},
        "properties": {"raw_scene_graph": {"type": ["object", "array", "null"]}},
    }
    pair_id: Text
    prompt: Text
    image: Text
    model: Text
    template: Text
    normalised: Annotated[
        dict[ScoreName, Share],
        Meta(min_length=1, description="(score - 1) / 4", extra_json_schema=_SCORE_NAMES),
    ]
    revision: Annotated[str, Meta(min_length=1, description="hub: and a commit, or sha256: and a hash")] | None = None
    key: Sha256 | None = None
    t2ia: (
        Annotated[float, Meta(ge=1, le=5, description="mean of the scores of the T2IA questions, higher is better")]
        | None
    ) = None
    iqa: (
        Annotated[float, Meta(ge=1, le=5, description="the same of IQA, or the holistic score, higher is better")]
        | None
    ) = None
    overall: Annotated[float, Meta(ge=1, le=5, description="alpha * iqa + beta * t2ia")] | None = None
    t2ia_questions: Annotated[tuple[ScoredQuestion, ...], Meta(min_length=1)] | None = None
    iqa_questions: Annotated[tuple[ScoredQuestion, ...], Meta(min_length=1)] | None = None
    scene_graph: SceneGraph | None = None
    raw_scene_graph: Any = None
    holistic: (
        Annotated[
            dict[Part, Rating],
            Meta(
                min_length=1,
                description="the student's scores of the whole (reply form release); of IQA it is the score, of T2IA "
                "the rounded mean",
                extra_json_schema={"propertyNames": {"enum": list(PARTS)}},
            ),
        ]
        | None
    ) = None
    cut: (
        Annotated[
            tuple[Literal["t2ia_questions", "t2ia_scores", "iqa_questions", "iqa_scores"], ...],
            Meta(
                min_length=1, description="passes whose reply came to a limit", extra_json_schema={"uniqueItems": True}
            ),
        ]
        | None
    ) = None
    soft: (
        Annotated[
            dict[ScoreName, MeanRating],
            Meta(
                min_length=1,
                description="the same scores from the expectation over the probabilities of 1-5 of each question: "
                "finer, fewer ties; for ranking and rewards",
                extra_json_schema=_SCORE_NAMES,
            ),
        ]
        | None
    ) = None
    settings: Annotated[Row, Meta(description="what scores depend on beside model and template")] = field(
        default_factory=dict
    )
    seconds: Annotated[float, Meta(ge=0, description="time of the batch divided by its pairs, s")] = 0.0

    @property
    def scores(self) -> dict[ScoreName, float]:
        """The scores that are present, 1-5, from the whole ratings of the questions."""
        named: dict[ScoreName, float | None] = {"t2ia": self.t2ia, "iqa": self.iqa, "overall": self.overall}
        return {name: score for name, score in named.items() if score is not None}

    def check(self) -> None:
        """Raise ValueError where a score stands without the answers behind it."""
        t2ia = self.t2ia is not None and self.t2ia_questions is not None
        iqa = self.iqa is not None and self.iqa_questions is not None and self.scene_graph is not None
        if not (t2ia or iqa):
            raise ValueError("expected t2ia with its questions, or iqa with its questions and scene graph")
        if self.overall is not None and (self.t2ia is None or self.iqa is None):
            raise ValueError("overall stands without t2ia and iqa")
        if not isinstance(self.raw_scene_graph, dict | list | None):
            raise ValueError("raw_scene_graph is no object or list")


class RivalScore(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The score that another metric gives a pair (`dyneval rival`), for `dyneval benchmark --compare`."""

    KEY = "pair_id"
    FREE = frozenset({"settings"})
    pair_id: Text
    prompt: str
    image: Text
    score: Annotated[float, Meta(description="on the metric's own scale, higher is better")]
    t2ia: Annotated[float, Meta(description="of the alignment alone, where the metric tells it apart")] | None = None
    iqa: Annotated[float, Meta(description="of the quality of the image alone, likewise")] | None = None
    raw: Annotated[float, Meta(description="what the metric gave, where lower is better there")] | None = None
    truncated: Annotated[bool, Meta(description="the prompt was longer than the metric reads")] | None = None
    rival: Text
    model: str
    settings: Annotated[Row, Meta(description="all that the score depends on, versions of packages among it")]
    key: Annotated[Sha256, Meta(description="of image, prompt and settings: scores with one key are interchangeable")]


# ---------------------------------------------------------------------------------------------------------------------
# What could not be made.

RejectKind = Literal[
    "row", "image", "reply", "refused", "engine", "dependency", "failed",
    "bad_row", "not_annotated", "missing_annotation", "bad_annotation", "too_long",
]  # fmt: skip
"""Why a row was not made. The kind alone decides what the next run does with the row.

row, image: the input is looked at again. reply: a model was asked until its attempts were used up. refused: the model
answers other requests, but not this one. Both are asked again only with --retry-rejects (Step 2: never). engine (no
answer), dependency (what the row needs is missing), failed: tried again. The other kinds are those of the builder,
which begins anew each time.
"""


class Reject(Value, frozen=True, kw_only=True, gc=False):
    """A row that was not made, and why. In a file, its key is called what the key of the file's rows is called."""

    key: Text
    kind: RejectKind
    reason: Text
    detail: Row = field(default_factory=dict)

    def row(self, key: str) -> Row:
        """The line of a rejects file beside rows whose key is called `key`."""
        return {key: self.key, "kind": self.kind, "reason": self.reason, **self.detail}

    @classmethod
    def of_row(cls, row: Row, key: str) -> Reject:
        """Read the reject from such a line. Raises SchemaError."""
        detail = {name: value for name, value in row.items() if name not in (key, "kind", "reason")}
        try:
            known = {"key": str(row[key]), "kind": row.get("kind", "failed"), "reason": row["reason"]}
            return msgspec.convert({**known, "detail": detail}, cls)
        except (KeyError, msgspec.ValidationError) as error:
            raise SchemaError(f"{row.get(key, 'a reject')}: is no reject ({error})") from error


class RunSummary(Value, frozen=True, kw_only=True, gc=False, omit_defaults=False):
    """What a run did: the key "run" in the summary file of every step, beside what only that step reports.

    made: rows that were written. there_before: rows that an earlier run had made. rejected: rows that could not be
    made. seconds: without loading models; None in Steps 1 and 3b, whose files depend on their input alone, so that two
    runs can be compared byte by byte. devices: where models computed, one entry a worker; empty without a model.
    """

    made: Count
    there_before: Count = 0
    rejected: Count = 0
    seconds: Seconds | None = None
    devices: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------------------------
# Schemas.

RECORDS: tuple[type[Record], ...] = (
    PromptRecord,
    PairRecord,
    *ANNOTATIONS.values(),
    InstructSample,
    ScoreRecord,
    RivalScore,
)
SCHEMA_FOLDER = Path(__file__).parent / "schemas"


def schema_name(record: type[Record]) -> str:
    """Name of a record in file names: "t2ia_questions" for T2IAQuestions, "pair" for PairRecord."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", record.__name__).lower()
    return words.removesuffix("_record")


def json_schema(record: type[Record]) -> Row:
    """JSON Schema of a record (draft 2020-12), for other programs; DynEval reads with the type itself."""
    generated = msgspec.json.schema(record)
    definitions = generated["$defs"]
    for definition in definitions.values():
        definition["description"] = inspect.cleandoc(definition["description"])
        for field_schema in definition["properties"].values():
            # msgspec puts the description of an optional field inside of its anyOf, where few readers look.
            if "anyOf" in field_schema and "description" in field_schema["anyOf"][0]:
                field_schema["description"] = field_schema["anyOf"][0].pop("description")
    own = definitions.pop(record.__name__)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **own,
        **({"$defs": definitions} if definitions else {}),
    }
    rules = dict(record.RULES)
    for name, more in rules.pop("properties", {}).items():
        schema["properties"][name] = schema["properties"][name] | more
    # ECMA's expressions, which JSON Schema uses, have no \Z; there $ is the end of the text and nothing else.
    return json.loads(json.dumps(schema | rules).replace(r"\\Z", "$"))


def schema_file(record: type[Record]) -> Path:
    """The file that holds the schema of a record."""
    return SCHEMA_FOLDER / f"{schema_name(record)}.schema.json"


if __name__ == "__main__":
    for record in RECORDS:
        schema_file(record).write_text(json.dumps(json_schema(record), indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"{schema_file(record)}\n")
