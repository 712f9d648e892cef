"""The teacher's rows as the builder reads them: typed objects, parsed and checked in one pass over their bytes.

The types say what the schemas of the same names say, and drop what no sample is made from. A row that does not fit its
type is checked against the schema itself, which has the last word and tells people what is wrong.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, ClassVar, Literal, Self

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from dyneval.errors import SchemaError
from dyneval.files.jsonl import to_line
from dyneval.records import IQAAnswers, IQAQuestions, MaybeYesNo, Record, T2IAAnswers, T2IAQuestions, YesNo

Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]
Score = Annotated[int, Meta(ge=1, le=5)]

# gc=False: nothing that is parsed from JSON holds itself, so the garbage collector need not look for it.


class Question(Struct, frozen=True, gc=False):
    """A question and its target answer."""

    question: Text
    answer: YesNo
    kind: Literal["alignment", "distortion", "quality"] | UnsetType = UNSET


class T2IAAnswer(Struct, frozen=True, gc=False):
    """An alignment question answered about an image."""

    question: Text
    target_answer: MaybeYesNo
    reasoning: Text
    score: Score


class IQAAnswer(Struct, frozen=True, gc=False):
    """A quality question answered about an image."""

    question: Text
    target_answer: MaybeYesNo
    answer: MaybeYesNo
    correct: bool | None
    reasoning: Text
    score: Score | UnsetType = UNSET
    """Unset in published data."""

    @property
    def rating(self) -> int | None:
        """Its score, 1-5; where it has none, 5 for a correct answer and 1 for a wrong one; None where neither is known.

        This is how the published code makes scores of answers without one.
        """
        if self.score is not UNSET:
            return self.score
        return None if self.correct is None else 5 if self.correct else 1


class Usage(Struct, frozen=True, gc=False):
    """Tokens that the teacher took."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class Provenance(Struct, frozen=True, gc=False):
    """Who made a row, and how."""

    model: Text
    engine: Text
    prompt_version: Text
    attempts: Annotated[int, Meta(ge=1)]
    created: str
    usage: Usage | UnsetType = UNSET


class TypedRow(Struct, frozen=True, gc=False):
    """What all rows have; `RECORD` is the record that a row is the typed form of."""

    RECORD: ClassVar[type[Record]]

    prompt: Text
    provenance: Provenance

    @classmethod
    def parse(cls, line: bytes) -> Self | None:
        """Parse a row, or return None where it does not fit this type; `of` and the record then tell why."""
        try:
            if not line.isascii():
                line.decode("utf-8")  # msgspec passes over what it does not keep, whether it is UTF-8 or not
            return _decoder(cls).decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    @classmethod
    def of(cls, record: Record, where: str) -> Self:
        """The typed form of a record, that is, of a row that fits its schema; 5.0 becomes the integer that it is.

        Raises SchemaError where a number is beyond 64 bits.
        """
        try:
            return _decoder(cls, strict=False).decode(to_line(record.to_dict()))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise SchemaError(f"{where}: {error}") from None


@cache
def _decoder(row: type[TypedRow], strict: bool = True) -> msgspec.json.Decoder:
    return msgspec.json.Decoder(row, strict=strict)


class T2IAQuestionsRow(TypedRow, frozen=True, gc=False):
    """The alignment and distortion questions of a prompt."""

    RECORD = T2IAQuestions
    prompt_id: Text
    questions: Annotated[list[Question], Meta(min_length=1)]


class T2IAAnswersRow(TypedRow, frozen=True, gc=False):
    """The answers to them about one image."""

    RECORD = T2IAAnswers
    pair_id: Text
    answers: Annotated[list[T2IAAnswer], Meta(min_length=1)]
    raw_response: str | UnsetType = UNSET


class IQAQuestionsRow(TypedRow, frozen=True, gc=False):
    """Scene graph and quality questions of one image."""

    RECORD = IQAQuestions
    pair_id: Text
    scene_graph: Raw
    """Its bytes in the file, whatever their shape: they go into the sample as they are."""
    questions: Annotated[list[Question], Meta(min_length=1)]

    def __post_init__(self) -> None:
        graph = bytes(self.scene_graph)
        if graph[:1] not in (b"{", b"[") or not graph[1:-1].strip():
            raise ValueError("the scene graph is no object or list, or empty")
        if graph[:1] == b"{" and b'"raw_response"' in graph and json.loads(graph).keys() == {"raw_response"}:
            raise ValueError("a reply that could not be read stands in the place of the scene graph")

    @property
    def graph_json(self) -> Raw:
        """The scene graph as JSON with no more escapes than `json.dumps(..., ensure_ascii=False)` writes.

        Raises ValueError on half a character.
        """
        graph = bytes(self.scene_graph)
        return Raw(to_line(json.loads(graph)).rstrip()) if b"\\" in graph else self.scene_graph

    @property
    def nodes(self) -> int:
        """Number of nodes of the scene graph; a bare list is taken for the list of nodes, and what has none has 0."""
        graph = bytes(self.scene_graph)
        try:
            return len(_LIST.decode(graph) if graph[:1] == b"[" else _NODES.decode(graph).nodes)
        except msgspec.MsgspecError:
            return 0


class _Nodes(Struct, gc=False):
    nodes: list[Raw]


_NODES, _LIST = msgspec.json.Decoder(_Nodes), msgspec.json.Decoder(list[Raw])


class IQAAnswersRow(TypedRow, frozen=True, gc=False):
    """The answers to them."""

    RECORD = IQAAnswers
    pair_id: Text
    answers: Annotated[list[IQAAnswer], Meta(min_length=1)]
    score: Annotated[float, Meta(ge=1, le=5)] | UnsetType = UNSET
