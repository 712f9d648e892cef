"""Builds DynEvalInstruct from annotations: training files, held-out pairs and samples, counts, dataset card, report.

Worker processes make the samples, a chunk of pairs at a time; this process writes them, in the order of the metadata,
so that the files do not depend on the number of workers. Memory holds the place of each annotation in its file, 0.1 GB
for 250,000 pairs, and a few chunks. Every pair must end in exactly one count of the summary.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO, cast

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write, exclusive, write_summary
from dyneval.files.jsonl import to_line
from dyneval.files.pairs import TWICE, meaning, pair_lines, pair_of_line, read_pairs
from dyneval.instruct.annotations import Annotations
from dyneval.instruct.chunks import (
    FAULTS,
    REJECTED,
    SEPARATOR,
    BuildConfig,
    Chunk,
    ChunkWorker,
    Line,
    PairOutcome,
    Span,
)
from dyneval.instruct.gallery import Extremes, gallery
from dyneval.instruct.parallel import in_parallel
from dyneval.instruct.report import write_card, write_report
from dyneval.instruct.statistics import Statistics
from dyneval.records import WORKFLOWS, PairRecord, Reject, RejectKind, RunSummary, Workflow
from dyneval.structs import Row

logger = logging.getLogger(__name__)

STAGE_FILES = {"t2ia": "dynevalinstruct_t2ia", "iqa": "dynevalinstruct_iqa"}
# Far below `parallel.SLOT`, so that chunks of long answers fit into shared memory as well.
CHUNK = 256
"""Pairs handed to a worker at once: about 3 MB of samples."""
WRITE_BEHIND = 1 << 26
"""Bytes of a training file after which the disk is set to work, so that little is left to wait for at the end."""


def build(config: BuildConfig) -> Row:
    """Write training and held-out files, heldout.jsonl, rejects.jsonl, summary.json, README.md and report.html.

    Nothing takes its name before all has been read: the files are there whole or not at all.

    Returns:
        The summary.

    Raises:
        DataFileError: a file is missing, not one sample could be made, or another process builds in the same folder.
    """
    with Annotations(config.annotations, config.metadata.parent) as annotations, exclusive(config.output):
        with ExitStack() as files:
            output = _BuildFiles(config, files)
            worker = ChunkWorker(config, annotations)
            rows = pair_lines(config.metadata)
            batches = iter(lambda: list(islice(rows, CHUNK)), [])
            chunks: Iterator[tuple[Sequence[Line], Chunk]] = (
                ((lines, worker.work(lines)) for lines in batches)
                if config.workers == 1
                else in_parallel(config.workers, worker, batches)
            )
            for lines, chunk in chunks:
                again = output.repeated(chunk)
                if again:  # samples and statistics of a chunk are in one piece, so the rest of it is made once more
                    chunk = worker.work([line for line in lines if line[0] not in again])
                output.add(chunk)
                output.show(chunk.extremes, lines)
                for number, name in again.items():
                    output.repeat(number, name, dict(lines)[number])
            detail = output.close()
        # Only now do the files have their names. A run that is killed before this leaves no summary of files that are
        # not there.
        run = RunSummary(
            made=sum(detail["samples"].values()) + sum(detail["heldout_samples"].values()),
            rejected=sum(detail["rejected"].values()),
        )
        summary = write_summary(config.output / "summary.json", run, detail)
        write_card(config.output / "README.md", summary)
        extremes = {
            group: [annotations.of(pair_of_line(output.shown[number], f"line {number}")) for number in numbers]
            for group, numbers in output.extremes.numbers.items()
        }
        write_report(config.output / "report.html", summary, gallery(extremes, config.metadata.parent))
    return summary


@dataclass(kw_only=True)
class _JsonArray:
    """A JSON array that is written entry by entry, and as JSONL to `lines` where that is wanted."""

    file: IO[bytes]
    lines: IO[bytes] | None
    length: int = 0
    """Samples written."""
    _unsent: int = 0

    def append(self, made: memoryview, span: Span) -> None:
        """Add the samples of `made` that `span` marks."""
        begin, end, count = span
        samples = made[begin:end]
        self.file.write(SEPARATOR if self.length else b"[\n")
        self.file.write(samples)
        if self.lines is not None:
            self.lines.write(bytes(samples).replace(SEPARATOR, b"\n") + b"\n")
        self.length += count
        self._unsent += len(samples)
        if self._unsent > WRITE_BEHIND and sys.platform == "linux":
            # Asked to drop pages from its cache, Linux first starts writing those that are not on the disk yet.
            with suppress(OSError):
                os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._unsent = 0


class _BuildFiles:
    """The open files of a build and what has been written to them."""

    def __init__(self, config: BuildConfig, stack: ExitStack) -> None:
        self.config = config
        self.stages: dict[str, _JsonArray] = {}
        self.heldout_stages: dict[str, _JsonArray] = {}
        for stage, name in STAGE_FILES.items():
            for arrays, stem in ((self.stages, name), (self.heldout_stages, f"{name}_heldout")):
                path = config.output / f"{stem}.json"
                lines = stack.enter_context(atomic_write(path.with_suffix(".jsonl"), "wb")) if config.lines else None
                arrays[stage] = _JsonArray(file=stack.enter_context(atomic_write(path, "wb")), lines=lines)
        self.heldout = stack.enter_context(atomic_write(config.output / "heldout.jsonl", "wb"))
        self.rejects = stack.enter_context(atomic_write(config.output / "rejects.jsonl", "wb"))
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, Counter[str]] = {name: Counter() for name in WORKFLOWS}
        self.lines: Counter[str] = Counter()
        self.tiers: dict[int | None, Counter[str]] = {tier: Counter() for tier in sorted(config.curation.delta)}
        self.statistics = Statistics()
        self.extremes = Extremes()
        self.shown: dict[int, bytes] = {}
        """Lines of the metadata that are in `extremes` so far, by number."""
        self.pair_ids: set[str] = set()
        self.repeats = 0
        self._first: dict[str, int] | None = None
        # Prompts of kept pairs are counted; a prompt is `sampled` once its own sample has been written, which may come
        # with a later pair, or never if its questions are bad.
        self.prompts: set[str] = set()
        self.sampled: set[str] = set()
        self.heldout_prompts: set[str] = set()
        self.heldout_sampled: set[str] = set()

    def repeated(self, chunk: Chunk) -> dict[int, str]:
        """Line and pair_id of the pairs whose pair_id an earlier row has. A row that is no pair claims no pair_id."""
        found: dict[int, str] = {}
        for pair in chunk.pairs:
            if pair.outcome == "bad_row":
                continue
            if pair.pair_id in self.pair_ids:
                found[pair.number] = pair.pair_id
            self.pair_ids.add(pair.pair_id)
        return found

    def repeat(self, number: int, pair_id: str, line: bytes) -> None:
        """Count a row whose pair_id an earlier row has; if it says something else than that row, it is a bad row."""
        if self._first is None:  # rows are repeated rarely, so the metadata is read again only then, not held always
            self._first = {
                pair.pair_id: meaning(pair) for pair in read_pairs(self.config.metadata, PairRecord, lambda _: None)
            }
        if meaning(pair_of_line(line, pair_id)) == self._first[pair_id]:
            self.repeats += 1
            return
        self.counts["bad_row"] += 1
        self._reject(pair_id, "bad_row", f"line {number}: {TWICE}")

    def add(self, chunk: Chunk) -> None:
        """Write the samples, held-out rows and rejects of some pairs, and count all of them."""
        self.statistics.merge(chunk.statistics)
        made = memoryview(chunk.samples)
        for pair in chunk.pairs:
            self.counts[pair.outcome] += 1
            for problem in pair.problems:
                self.faults[problem.workflow][problem.kind] += 1
            if pair.outcome in REJECTED:
                # One reject for the pair: its reason names what is wrong with each annotation.
                self._reject(pair.pair_id, cast(RejectKind, pair.outcome), pair.reason)
                continue
            self.tiers.setdefault(pair.tier, Counter())[pair.outcome] += 1
            for problem in pair.problems:
                self._reject(pair.pair_id, problem.kind, problem.reason, problem.workflow)
            if pair.outcome == "heldout":
                self.heldout_prompts.add(pair.prompt_id)
                self.heldout.write(pair.row + b"\n")
                self._write_samples(pair, made, self.heldout_stages, self.heldout_sampled)
            elif pair.outcome == "kept":
                self.prompts.add(pair.prompt_id)
                self._write_samples(pair, made, self.stages, self.sampled)

    def show(self, extremes: Extremes, lines: Sequence[Line]) -> None:
        """Take over the extreme pairs of a chunk, and keep the lines of those that still are extreme."""
        self.extremes.merge(extremes)
        wanted = {number for numbers in self.extremes.numbers.values() for number in numbers}
        self.shown = {number: line for number, line in (*self.shown.items(), *lines) if number in wanted}

    def close(self) -> Row:
        """End the arrays and return the summary. Raises DataFileError when there is no sample."""
        config = self.config
        # Empty training files would only be noticed by the trainer, on the GPU machine.
        if not self.prompts:
            faults = {name: dict(counts) for name, counts in self.faults.items() if counts}
            raise DataFileError(
                f"{config.annotations}: no training sample can be made; pairs by outcome: {dict(self.counts)}; "
                f"annotations that are missing or bad: {faults} "
                "(annotate first; lower --heldout or raise --delta where all pairs were set aside)"
            )
        for array in (*self.stages.values(), *self.heldout_stages.values()):
            array.file.write(b"\n]\n" if array.length else b"[]\n")
        # JSONL files of an earlier build hold other samples than the JSON files of this one.
        if not config.lines:
            for name in STAGE_FILES.values():
                for suffix in ("", "_heldout"):
                    (config.output / f"{name}{suffix}.jsonl").unlink(missing_ok=True)
        curation = config.curation
        tier_names = {tier: "unknown" if tier is None else str(tier) for tier in self.tiers}
        return {
            "template": config.template,
            "reply_form": config.reply_form,
            "delta": {name: curation.limit(tier) for tier, name in tier_names.items()},
            "heldout_share": curation.heldout,
            "pairs": self.counts.total(),
            "repeated": self.repeats,
            "kept": self.counts["kept"],
            "dropped": {"score_not_below_delta": self.counts["score_not_below_delta"]},
            "heldout_pairs": self.counts["heldout"],
            "heldout_prompts": len(self.heldout_prompts),
            "training_prompts": len(self.prompts),
            "rejected": {kind: self.lines[kind] for kind in (*REJECTED, *FAULTS)},
            "annotations": {name: {kind: counts[kind] for kind in FAULTS} for name, counts in self.faults.items()},
            "tiers": {name: dict(self.tiers[tier]) for tier, name in tier_names.items()},
            "samples": {stage: array.length for stage, array in self.stages.items()},
            "heldout_samples": {stage: array.length for stage, array in self.heldout_stages.items()},
            "statistics": self.statistics.to_dict(),
        }

    def _write_samples(
        self, pair: PairOutcome, made: memoryview, stages: dict[str, _JsonArray], sampled: set[str]
    ) -> None:
        # The question sample of a prompt has no image: for every image of the prompt it would be the same once more.
        if pair.prompt is not None and pair.prompt_id not in sampled:
            sampled.add(pair.prompt_id)
            stages["t2ia"].append(made, pair.prompt)
        for stage, span in (pair.stages or {}).items():
            stages[stage].append(made, span)

    def _reject(self, pair_id: str, kind: RejectKind, reason: str, workflow: Workflow | None = None) -> None:
        self.lines[kind] += 1
        detail = {"workflow": workflow} if workflow else {}
        self.rejects.write(to_line(Reject(key=pair_id, kind=kind, reason=reason, detail=detail).row(PairRecord.KEY)))
        # While annotation is still going on, most pairs lack something: that is no warning each.
        if kind not in ("not_annotated", "missing_annotation"):
            logger.warning("%s: %s", pair_id, reason)
