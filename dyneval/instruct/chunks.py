"""The work on one pair, done by worker processes a chunk at a time: read, check, split, curate, write samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import orjson

from dyneval import jsonl, schemas
from dyneval.images import ImageError, load_image, resolve_below
from dyneval.instruct import samples
from dyneval.instruct.annotations import AnnotatedPair, Annotations, MissingAnnotationError, PublishedAnnotations
from dyneval.instruct.curation import Curation
from dyneval.instruct.statistics import Observations, Statistics
from dyneval.instruct.token_length import SampleTooLongError, TokenLimit
from dyneval.records import InstructSample, PairRecord
from dyneval.schemas import SchemaError
from dyneval.storage import DataFileError
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion

Outcome = Literal[
    "kept", "heldout", "score_not_below_delta", "bad_row", "image", "not_annotated", "bad_annotation", "too_long"
]
SET_ASIDE: tuple[Outcome, ...] = ("heldout", "score_not_below_delta")
REJECTED: tuple[Outcome, ...] = ("bad_row", "image", "not_annotated", "bad_annotation", "too_long")
ImageCheck = Literal["none", "exists", "decode"]
Line = tuple[int, bytes]
"""A line of metadata.jsonl and its number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What is built from what.

    Attributes:
        metadata: metadata.jsonl of the pairs; image paths in the samples are relative to its folder.
        annotations: folder of the four annotation files.
        output: folder of the training files.
        curation: which pairs are kept, and the held-out share.
        template: version of the human turns.
        check_images: look whether each image is there, or decode it, or neither.
        limit: most tokens a sample may have, and the tokenizer that counts them; None: not counted.
        lines: write each training file as JSONL too.
        workers: processes at work.
    """

    metadata: Path
    annotations: Path
    output: Path
    curation: Curation = field(default_factory=Curation)
    template: TemplateVersion = DEFAULT_TEMPLATE
    check_images: ImageCheck = "exists"
    limit: TokenLimit | None = None
    lines: bool = False
    workers: int = 1


SEPARATOR = b",\n"
"""What stands between two samples; no sample holds it, since JSON has no line break in a text."""
Span = tuple[int, int, int]
"""Begin and end of some samples among those of a chunk, and their number."""


class Done(NamedTuple):
    """What came of one pair, and where in its chunk its own samples and that of its prompt stand, if it has any."""

    pair_id: str
    outcome: Outcome
    reason: str = ""
    prompt_id: str = ""
    tier: int = 0
    row: bytes = b""
    prompt: Span | None = None
    stages: dict[str, Span] | None = None


@dataclass(kw_only=True, slots=True)
class Chunk:
    """What came of some pairs, in order, and the statistics of those that are kept.

    `samples` is the JSON of all samples in one piece, which travels between processes faster than a thousand.
    """

    done: list[Done]
    statistics: Statistics
    samples: bytearray | memoryview


@dataclass(kw_only=True, slots=True)
class _Draft:
    """What has been made for a chunk so far.

    No pair and no piece of JSON outlives its turn: what is made for the next one then lies in the processor's cache.
    """

    samples: bytearray = field(default_factory=bytearray)
    statistics: Statistics = field(default_factory=Statistics)
    observed: Observations = field(default_factory=Observations)
    prompt: str = ""
    """Prompt of the last pair; images of one prompt mostly follow each other."""
    prompt_sample: InstructSample | None = None
    prompt_span: Span | None = None

    def put(self, *made: InstructSample) -> Span:
        """Add samples, checked against their schema."""
        begin = len(self.samples)
        self.samples += SEPARATOR.join([_encoded(sample) for sample in made])
        return begin, len(self.samples), len(made)


class Worker:
    """Works on chunks of one build."""

    def __init__(self, config: BuildConfig, annotations: Annotations | PublishedAnnotations) -> None:
        self.config = config
        self.annotations = annotations
        self.root = config.metadata.parent
        self.count = config.limit.counter() if config.limit else None

    def work(self, lines: Sequence[Line]) -> Chunk:
        """Work on some lines of the metadata; no exception but those of the machine leaves here."""
        draft = _Draft()
        done = [self._pair(number, line, draft) for number, line in lines if line.strip()]
        draft.statistics.count(draft.observed)
        return Chunk(done=done, statistics=draft.statistics, samples=draft.samples)

    def _pair(self, number: int, line: bytes, draft: _Draft) -> Done:
        name = f"line {number}"
        try:
            row = jsonl.parse(self.config.metadata, number, line)
            name = str(row.get("pair_id") or name)
            pair = PairRecord.from_dict(row, f"{self.config.metadata}:{number}")
        except (DataFileError, SchemaError) as error:
            return Done(name, "bad_row", str(error))
        try:
            self._check_image(pair)
            return self._sorted(line, self.annotations.of(pair), draft)
        except MissingAnnotationError as error:
            return Done(name, "not_annotated", str(error))
        except ImageError as error:
            return Done(name, "image", str(error))
        except SampleTooLongError as error:
            return Done(name, "too_long", str(error))
        except ValueError as error:  # SchemaError, DataFileError, and what the human turns refuse
            return Done(name, "bad_annotation", str(error))

    def _check_image(self, pair: PairRecord) -> None:
        if self.config.check_images == "none":
            return
        path = resolve_below(self.root, pair.file_name)
        if self.config.check_images == "decode":
            load_image(path)
        elif not path.is_file():
            raise ImageError(f"{pair.file_name}: no such image file below {self.root}")

    def _sorted(self, line: bytes, item: AnnotatedPair, draft: _Draft) -> Done:
        """Make all samples of a pair, whatever becomes of it, so that every annotation is checked."""
        pair, curation = item.pair, self.config.curation
        prompt = self._prompt_sample(item, draft)
        t2ia = samples.t2ia_evaluation_sample(item)
        iqa = samples.iqa_sample(item), samples.iqa_evaluation_sample(item)
        self._measure(pair, (prompt, t2ia, *iqa), draft.statistics)
        done = Done(pair.pair_id, "score_not_below_delta", prompt_id=pair.prompt_id, tier=pair.tier)
        keeps = curation.keeps(pair.tier, item.t2ia, item.iqa)
        if keeps:
            draft.prompt_span = draft.prompt_span or draft.put(prompt)
            stages = {"t2ia": draft.put(t2ia), "iqa": draft.put(*iqa)}
            done = done._replace(outcome="kept", prompt=draft.prompt_span, stages=stages)
        if curation.holds_out(pair.prompt_id):
            # Every pair, to be scored; samples only of those that training would take, so that losses compare.
            return done._replace(outcome="heldout", row=line)
        if keeps:
            draft.observed.add(item)
        return done

    def _prompt_sample(self, item: AnnotatedPair, draft: _Draft) -> InstructSample:
        """The T2IA sample of a pair's prompt."""
        if draft.prompt_sample is None or draft.prompt != item.pair.prompt_id:
            draft.prompt_sample = samples.t2ia_sample(item, self.config.template)
            draft.prompt, draft.prompt_span = item.pair.prompt_id, None
        return draft.prompt_sample

    def _measure(self, pair: PairRecord, made: Iterable[InstructSample], statistics: Statistics) -> None:
        if self.count is None:
            return
        for sample in made:
            statistics.tokens[self.count(sample, pair.width, pair.height) // 100 * 100] += 1


def _encoded(sample: InstructSample) -> bytes:
    row = sample.to_dict()
    schemas.check(sample.SCHEMA, row, sample.id or "")
    return orjson.dumps(row)
