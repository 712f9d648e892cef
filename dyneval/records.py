"""Typed records, one per arrow between the steps. Each names its JSON Schema; `from_dict` checks against it.

PromptRecord -> PairRecord -> T2IAQuestions, T2IAAnswers, IQAQuestions, IQAAnswers -> InstructSample -> ScoreRecord
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import msgspec

from dyneval import schemas
from dyneval.errors import SchemaError
from dyneval.hashing import short_id

YesNo = Literal["yes", "no"]
MaybeYesNo = Literal["yes", "no", ""]
"""In answers of the published data set: empty where the teacher's reply did not say."""
Tier = Literal[1, 2, 3]
TIERS: tuple[Tier, ...] = (1, 2, 3)
Workflow = Literal["t2ia_questions", "t2ia_answers", "iqa_questions", "iqa_answers"]
"""What a teacher is asked for. Each has a record, a schema and a file of its own, all of this name."""
KEYS: dict[Workflow, Literal["prompt_id", "pair_id"]] = {
    "t2ia_questions": "prompt_id",
    "t2ia_answers": "pair_id",
    "iqa_questions": "pair_id",
    "iqa_answers": "pair_id",
}
"""Key of the rows of each annotation file."""


def prompt_id(prompt: str) -> str:
    """Id of a prompt, a function of its text alone: "P" and 16 hex digits."""
    return "P" + short_id(prompt)


def pair_id(prompt_id: str, generation_model: str) -> str:
    """Id of the image that `generation_model` makes for a prompt; usable as a file name."""
    return f"{prompt_id}-{generation_model}"


def normalised_score(score: float) -> float:
    """Map a score from 1-5 to 0-1: (score - 1) / 4, as published."""
    return (score - 1) / 4


def student_json(value: Any) -> str:
    r"""JSON as the student writes it: one line, ", " and ": " between things, text as it is (no \u escapes).

    Training answers are written with this function and the scorer's grammar admits exactly this form. The bytes are
    those of `json.dumps(value, ensure_ascii=False)`, in a third of its time; msgspec's Structs are written as objects.
    Raises ValueError on half a character (lone surrogate).
    """
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    except UnicodeEncodeError as error:
        raise SchemaError(f"cannot be written as JSON: {error}") from error


class Record:
    """A row of a file between two steps."""

    SCHEMA: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @classmethod
    def from_dict(cls, row: dict[str, Any], where: str = "record") -> Self:
        """Check `row` against the schema and build the record; keys that the record does not have are dropped.

        Raises:
            SchemaError: `row` does not fit; the message begins with `where`.
        """
        schemas.check(cls.SCHEMA, row, where)
        return cls(**{name: row[name] for name in cls.__dataclass_fields__ if name in row})

    def to_dict(self) -> dict[str, Any]:
        """Return the row as it stands in a file; unset optional fields are left out, lists and dicts are shared."""
        return {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRecord(Record):
    """A prompt with its complexity H, the nine factors behind it, its tier and its sub-categories."""

    SCHEMA = "prompt"
    prompt_id: str
    prompt: str
    complexity: float
    factors: dict[str, float]
    tier: Tier
    categories: list[str]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRecord(Record):
    """One generated image and how it was made; `file_name` is relative to the folder of metadata.jsonl.

    `seed` is None where the model takes none, or where the image came without saying; `tier` is None where nobody knows
    which model made the image.
    """

    SCHEMA = "pair"
    pair_id: str
    file_name: str
    prompt_id: str
    prompt: str
    tier: Tier | None = None
    categories: list[str]
    generation_model: str
    seed: int | None = None
    width: int
    height: int
    settings: dict[str, Any]
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class T2IAQuestions(Record):
    """Alignment and distortion questions of one prompt, merged; `questions`: {"question", "answer", "kind"}."""

    SCHEMA = "t2ia_questions"
    prompt_id: str
    prompt: str
    questions: list[dict[str, str]]
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class T2IAAnswers(Record):
    """A teacher's answers on one image; `answers`: {"question", "target_answer", "reasoning", "score"}.

    In published data `target_answer` may be empty.
    """

    SCHEMA = "t2ia_answers"
    pair_id: str
    prompt: str
    answers: list[dict[str, Any]]
    provenance: dict[str, Any]
    raw_response: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IQAQuestions(Record):
    """The scene graph of one image, as the teacher wrote it, and the quality questions made from it.

    Our teacher is held to nodes (id, label, attributes) and edges; published graphs are objects or lists of any shape
    (`dyneval.scene_graphs.normalised_graph` reads them).
    """

    SCHEMA = "iqa_questions"
    pair_id: str
    prompt: str
    scene_graph: dict[str, Any] | list[Any]
    questions: list[dict[str, str]]
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class IQAAnswers(Record):
    """A teacher's quality answers; `answers` as in T2IA, and "answer", "correct"; `score` is their mean, 1-5.

    Published answers have no score of their own, `answer` may be empty and `correct` null; their `score` is the
    teacher's verdict on the whole image.
    """

    SCHEMA = "iqa_answers"
    pair_id: str
    prompt: str
    answers: list[dict[str, Any]]
    score: float | None = None
    provenance: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructSample(Record):
    """One training sample: a human turn that begins with a task token, and the student's answer."""

    SCHEMA = "instruct_sample"
    conversations: list[dict[str, str]]
    image: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRecord(Record):
    """The student's verdict: scores 1-5 (higher is better), the same normalised to 0-1, and what they rest on.

    `t2ia`, `iqa` and `overall` are made from the integer scores of the questions, as the student was trained to write
    them; `soft` holds the same made from the expectation of each score, which ties less (`benchmarks/README.md`).
    A student of the release form scores each part as a whole, too (`holistic`): that is its IQA score; of T2IA it is
    the rounded mean. `raw_scene_graph` is the graph as the student wrote it, where it has another shape; `cut` names
    the passes whose reply came to a limit on lists or texts.
    `settings`: what the scores depend on beside model and template; `revision`: the model's Hub commit, or a hash of
    its weights; `key`: a hash of all that and of image and prompt, so that equal keys mean one result. When only one
    half was scored, the other half and `overall` are None.
    """

    SCHEMA = "score"
    pair_id: str
    prompt: str
    image: str
    model: str
    template: str
    normalised: dict[str, float]
    revision: str | None = None
    key: str | None = None
    t2ia: float | None = None
    iqa: float | None = None
    overall: float | None = None
    t2ia_questions: list[dict[str, Any]] | None = None
    iqa_questions: list[dict[str, Any]] | None = None
    scene_graph: dict[str, Any] | None = None
    raw_scene_graph: Any = None
    holistic: dict[str, int] | None = None
    cut: list[str] | None = None
    soft: dict[str, float] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0)
