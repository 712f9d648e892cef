"""Makes the training samples of pairs, a chunk of pairs at a time: read, check, split, curate, write.

`ChunkWorker` runs in the builder's process or in forked ones (`parallel`). It decides what becomes of a pair, and
returns that with the JSON of the samples; the builder only writes. This is the hot loop of a build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from dyneval.errors import ImageError, SchemaError
from dyneval.files.images import load_image, resolve_below
from dyneval.files.pairs import pair_of_line
from dyneval.instruct.annotations import AnnotatedPair, Annotations, Fault, Problem, overall_score
from dyneval.instruct.curation import Curation
from dyneval.instruct.gallery import Extremes
from dyneval.instruct.samples import MAKERS, Wording
from dyneval.instruct.statistics import Observations, Statistics
from dyneval.instruct.token_length import SampleTooLongError, TokenLimit
from dyneval.records import InstructSample, PairRecord, Workflow
from dyneval.replies import DEFAULT_FORM, ReplyForm
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion

Outcome = Literal["kept", "heldout", "score_not_below_delta", "bad_row", "image", "not_annotated"]
REJECTED: tuple[Outcome, ...] = ("bad_row", "image", "not_annotated")
"""Outcomes of pairs that have no sample at all. Other pairs may lack some of the four, for one of FAULTS."""
FAULTS: tuple[Fault, ...] = get_args(Fault)
STAGES: dict[str, tuple[Workflow, ...]] = {"t2ia": ("t2ia_answers",), "iqa": ("iqa_questions", "iqa_answers")}
"""The samples that every pair has in a stage; the one of its prompt is shared."""
ImageCheck = Literal["none", "exists", "decode"]
Line = tuple[int, bytes]
"""A line of metadata.jsonl and its number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What a build reads, where it writes, and how samples are chosen and worded.

    Attributes:
        metadata: metadata.jsonl of the pairs; image paths in the samples are relative to its folder.
        annotations: folder of the four annotation files.
        output: folder of the training files.
        curation: which pairs are kept, and the held-out share.
        template: version of the human turns.
        reply_form: form of the answers to questions.
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
    reply_form: ReplyForm = DEFAULT_FORM
    check_images: ImageCheck = "exists"
    limit: TokenLimit | None = None
    lines: bool = False
    workers: int = 1


SEPARATOR = b",\n"
"""What stands between two samples; no sample holds it, since JSON has no line break in a text."""
Span = tuple[int, int, int]
"""Begin and end of some samples among those of a chunk, and their number."""


class PairOutcome(NamedTuple):
    """What became of one pair.

    `stages` and `prompt` say where its own samples and the sample of its prompt stand in the chunk, if it has any.
    """

    number: int
    """Its line in the metadata."""
    pair_id: str
    outcome: Outcome
    reason: str = ""
    prompt_id: str = ""
    tier: int | None = None
    row: bytes = b""
    prompt: Span | None = None
    stages: dict[str, Span] | None = None
    problems: Sequence[Problem] = ()


@dataclass(kw_only=True, slots=True)
class Chunk:
    """What became of some pairs, in order, and the statistics and extremes of those that are kept.

    `samples` is the JSON of all samples in one piece, which travels between processes faster than a thousand.
    """

    pairs: list[PairOutcome]
    statistics: Statistics
    extremes: Extremes
    samples: bytearray | memoryview


@dataclass(kw_only=True, slots=True)
class _Draft:
    """What has been made for a chunk so far.

    Samples become bytes at once, and no pair is kept longer than its turn: its memory is then reused for the next pair
    while it still is in the processor's cache.
    """

    samples: bytearray = field(default_factory=bytearray)
    statistics: Statistics = field(default_factory=Statistics)
    observed: Observations = field(default_factory=Observations)
    extremes: Extremes = field(default_factory=Extremes)
    prompt_sample: InstructSample | None = None
    """Of the last pair; images of one prompt mostly follow each other."""
    prompt_row: object = None
    """The questions that it was made from."""
    prompt_span: Span | None = None

    def put(self, made: Sequence[InstructSample]) -> Span:
        """Add samples. They are not checked again: the rows that they are made of were, when they were read."""
        begin = len(self.samples)
        self.samples += SEPARATOR.join([msgspec.json.encode(sample) for sample in made])
        return begin, len(self.samples), len(made)


class ChunkWorker:
    """Makes the chunks of one build."""

    def __init__(self, config: BuildConfig, annotations: Annotations) -> None:
        self.config = config
        self.annotations = annotations
        self.root = config.metadata.parent
        self.wording = Wording(config.template, config.reply_form)
        self.count = config.limit.counter() if config.limit else None

    def work(self, lines: Sequence[Line]) -> Chunk:
        """Make the chunk of some lines of the metadata. Bad data raises nothing: it becomes an outcome or a problem."""
        draft = _Draft()
        pairs = [self._pair(number, line, draft) for number, line in lines]
        draft.statistics.count(draft.observed)
        return Chunk(pairs=pairs, statistics=draft.statistics, extremes=draft.extremes, samples=draft.samples)

    def _pair(self, number: int, line: bytes, draft: _Draft) -> PairOutcome:
        try:
            pair = pair_of_line(line, f"{self.config.metadata}:{number}")
        except SchemaError as error:
            return PairOutcome(number, PairRecord.key_in(line) or f"line {number}", "bad_row", str(error))
        # Before the annotations: without its image none of the samples but the prompt's can be trained on.
        try:
            if self.config.check_images != "none":
                path = resolve_below(self.root, pair.file_name)
                if self.config.check_images == "decode":
                    load_image(path)
                elif not path.is_file():
                    raise ImageError(f"{pair.file_name}: no such image file below {self.root}")
        except ImageError as error:
            return PairOutcome(number, pair.pair_id, "image", str(error))
        return self._sorted(number, line, self.annotations.of(pair), draft)

    def _sorted(self, number: int, line: bytes, item: AnnotatedPair, draft: _Draft) -> PairOutcome:
        """Decide what becomes of a pair. All its samples are made in any case, so that every annotation is checked."""
        pair, curation = item.pair, self.config.curation
        made, tokens, problems = self._samples(item, draft)
        if not made:
            reason = "; ".join([problem.reason for problem in problems])
            return PairOutcome(number, pair.pair_id, "not_annotated", reason, problems=problems)
        t2ia, iqa = item.t2ia, item.iqa
        overall = overall_score(t2ia, iqa)
        outcome: Outcome = "score_not_below_delta"
        row = b""
        prompt: Span | None = None
        stages: dict[str, Span] | None = None
        if curation.keeps(pair.tier, overall):
            outcome, stages = "kept", {}
            if "t2ia_questions" in made:
                prompt = draft.prompt_span = draft.prompt_span or draft.put([made["t2ia_questions"]])
            for stage, names in STAGES.items():
                if own := [made[name] for name in names if name in made]:
                    stages[stage] = draft.put(own)
        if curation.holds_out(pair.prompt):
            # heldout.jsonl lists every pair, to be scored. Samples are only of those that training would take too, so
            # that the held-out loss compares with the training loss.
            outcome, row = "heldout", line
        elif outcome == "kept":
            draft.observed.add(item, overall, tokens)
            draft.extremes.add(number, t2ia, iqa, overall)
        return PairOutcome(number, pair.pair_id, outcome, "", pair.prompt_id, pair.tier, row, prompt, stages, problems)

    def _samples(
        self, item: AnnotatedPair, draft: _Draft
    ) -> tuple[dict[Workflow, InstructSample], list[int], list[Problem]]:
        """The samples of a pair, their numbers of tokens where they are counted, and why others could not be made."""
        made: dict[Workflow, InstructSample] = {}
        tokens: list[int] = []
        problems = list(item.problems)
        rows = (item.t2ia_questions, item.t2ia_answers, item.iqa_questions, item.iqa_answers)
        for (name, make), row in zip(MAKERS.items(), rows, strict=True):
            if row is None:
                continue
            try:
                if name == "t2ia_questions":
                    # Pairs of one prompt get the same row object from `Annotations`, so identity is enough to know it.
                    if draft.prompt_sample is None or draft.prompt_row is not row:
                        draft.prompt_sample = make(item.pair, row, self.wording)
                        draft.prompt_row, draft.prompt_span = row, None
                    sample = draft.prompt_sample
                else:
                    sample = make(item.pair, row, self.wording)
                if self.count is not None:
                    tokens.append(self.count(sample, item.pair.width, item.pair.height))
            # Each of the four on its own: a bad scene graph is no reason to lose the T2IA answers.
            except SampleTooLongError as error:
                problems.append(Problem(name, "too_long", str(error)))
            except ValueError as error:  # SchemaError, and what turns and replies refuse
                problems.append(Problem(name, "bad_annotation", f"{item.pair.pair_id}: {name}: {error}"))
            else:
                made[name] = sample
        return made, tokens, problems
