"""The work on one pair, done by worker processes a chunk at a time: read, check, split, curate, write samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from dyneval import jsonl
from dyneval.images import ImageError, load_image, resolve_below
from dyneval.instruct import samples
from dyneval.instruct.annotations import AnnotatedPair, Annotations, MissingAnnotationError, PublishedAnnotations
from dyneval.instruct.curation import Curation
from dyneval.instruct.statistics import Statistics
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


@dataclass(kw_only=True, slots=True)
class Done:
    """What came of one pair; `stages` holds its samples as JSON if it has any, `prompt_sample` that of its prompt."""

    pair_id: str
    outcome: Outcome
    reason: str = ""
    prompt_id: str = ""
    tier: int = 0
    row: bytes = b""
    prompt_sample: bytes = b""
    stages: dict[str, list[bytes]] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class Chunk:
    """What came of some pairs, in order, and the statistics of those that are kept."""

    done: list[Done] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)


class Worker:
    """Works on chunks of one build."""

    def __init__(self, config: BuildConfig, annotations: Annotations | PublishedAnnotations) -> None:
        self.config = config
        self.annotations = annotations
        self.root = config.metadata.parent
        self.count = config.limit.counter() if config.limit else None
        self._prompt: tuple[str, InstructSample] | None = None

    def work(self, lines: Sequence[Line]) -> Chunk:
        """Work on some lines of the metadata; no exception but those of the machine leaves here."""
        chunk = Chunk()
        for number, line in lines:
            done = self._pair(number, line, chunk.statistics)
            if done is not None:
                chunk.done.append(done)
        return chunk

    def _pair(self, number: int, line: bytes, statistics: Statistics) -> Done | None:
        if not line.strip():
            return None
        name = f"line {number}"
        try:
            row = jsonl.parse(self.config.metadata, number, line)
            name = str(row.get("pair_id") or name)
            pair = PairRecord.from_dict(row, f"{self.config.metadata}:{number}")
        except (DataFileError, SchemaError) as error:
            return Done(pair_id=name, outcome="bad_row", reason=str(error))
        done = Done(pair_id=name, outcome="kept", prompt_id=pair.prompt_id, tier=pair.tier)
        try:
            self._check_image(pair)
            self._sort(done, line, self.annotations.of(pair), statistics)
        except MissingAnnotationError as error:
            done.outcome, done.reason = "not_annotated", str(error)
        except ImageError as error:
            done.outcome, done.reason = "image", str(error)
        except SampleTooLongError as error:
            done.outcome, done.reason = "too_long", str(error)
        except ValueError as error:  # SchemaError, DataFileError, and what the human turns refuse
            done.outcome, done.reason = "bad_annotation", str(error)
        return done

    def _check_image(self, pair: PairRecord) -> None:
        if self.config.check_images == "none":
            return
        path = resolve_below(self.root, pair.file_name)
        if self.config.check_images == "decode":
            load_image(path)
        elif not path.is_file():
            raise ImageError(f"{pair.file_name}: no such image file below {self.root}")

    def _sort(self, done: Done, line: bytes, item: AnnotatedPair, statistics: Statistics) -> None:
        """Make all samples of a pair, whatever becomes of it, so that every annotation is checked."""
        prompt_sample = self._prompt_sample(item)
        stages = {
            "t2ia": [samples.t2ia_evaluation_sample(item)],
            "iqa": [samples.iqa_sample(item), samples.iqa_evaluation_sample(item)],
        }
        self._measure(item.pair, [prompt_sample, *stages["t2ia"], *stages["iqa"]], statistics)
        curation = self.config.curation
        keeps = curation.keeps(item.pair.tier, item.t2ia, item.iqa)
        if keeps:
            done.prompt_sample = orjson.dumps(prompt_sample.to_dict())
            done.stages = {stage: [orjson.dumps(one.to_dict()) for one in found] for stage, found in stages.items()}
        if curation.holds_out(item.pair.prompt_id):
            # Every pair, to be scored; samples only of those that training would take, so that losses compare.
            done.outcome, done.row = "heldout", line
        elif not keeps:
            done.outcome = "score_not_below_delta"
        else:
            statistics.add(item)

    def _prompt_sample(self, item: AnnotatedPair) -> InstructSample:
        """The T2IA sample of a pair's prompt; images of one prompt mostly follow each other."""
        if self._prompt is None or self._prompt[0] != item.pair.prompt_id:
            self._prompt = item.pair.prompt_id, samples.t2ia_sample(item, self.config.template)
        return self._prompt[1]

    def _measure(self, pair: PairRecord, made: Iterable[InstructSample], statistics: Statistics) -> None:
        if self.count is None:
            return
        for sample in made:
            statistics.tokens[self.count(sample, pair.width, pair.height) // 100 * 100] += 1


_worker: Worker | None = None


def set_worker(worker: Worker) -> None:
    """Make `worker` the one that `work` uses in this process; called before the others are forked off."""
    global _worker
    _worker = worker


def work(lines: Sequence[Line]) -> Chunk:
    """`Worker.work` of this process, as a function that can be named to another one."""
    assert _worker is not None, "set_worker comes first"
    return _worker.work(lines)
