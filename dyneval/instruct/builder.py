"""Builds DynEvalInstruct from annotations: training files, held-out pairs and samples, counts, dataset card, report.

Worker processes make the samples, a chunk of pairs at a time; this one writes them, in the order of the metadata.
What is held in memory is the place of each annotation, 0.1 GB for 250,000 pairs, and a few chunks.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from typing import IO, cast

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write, exclusive, write_summary
from dyneval.files.jsonl import to_line
from dyneval.files.pairs import TWICE, meaning, pair_lines, pair_of_line, read_pairs
from dyneval.instruct.annotations import Annotations
from dyneval.instruct.chunks import FAULTS, REJECTED, SEPARATOR, BuildConfig, Chunk, Done, Line, Span, Worker
from dyneval.instruct.gallery import Extremes, gallery
from dyneval.instruct.parallel import in_parallel
from dyneval.instruct.report import write_card, write_report
from dyneval.instruct.statistics import Statistics
from dyneval.records import WORKFLOWS, PairRecord, Reject, RejectKind, RunSummary, Workflow
from dyneval.structs import Row

logger = logging.getLogger(__name__)

STAGE_FILES = {"t2ia": "dynevalinstruct_t2ia", "iqa": "dynevalinstruct_iqa"}
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
    with ExitStack() as stack:
        annotations = stack.enter_context(Annotations(config.annotations, config.metadata.parent))
        stack.enter_context(exclusive(config.output))
        output = _Output(config, stack)
        worker = Worker(config, annotations)
        for lines, chunk in _chunks(config, worker):
            again = output.repeated(chunk)
            if again:  # its samples and statistics are in one piece, so what is left of it is made once more
                chunk = worker.work([line for line in lines if line[0] not in again])
            output.add(chunk)
            output.show(chunk.extremes, lines)
            for number, name in again.items():
                output.repeat(number, name, dict(lines)[number])
        detail = output.close()
        run = RunSummary(
            made=sum(detail["samples"].values()) + sum(detail["heldout_samples"].values()),
            rejected=sum(detail["rejected"].values()),
        )
        summary = write_summary(config.output / "summary.json", run, detail)
        write_card(config.output / "README.md", summary)
        write_report(config.output / "report.html", summary, output.gallery(annotations))
    return summary


def _chunks(config: BuildConfig, worker: Worker) -> Iterator[tuple[Sequence[Line], Chunk]]:
    lines = pair_lines(config.metadata)
    batches = iter(lambda: list(islice(lines, CHUNK)), [])
    if config.workers == 1:
        yield from ((lines, worker.work(lines)) for lines in batches)
    else:
        yield from in_parallel(config.workers, worker, batches)


class _JsonArray:
    """A JSON array that is written entry by entry, and as JSONL beside where that is wanted."""

    def __init__(self, file: IO[bytes], lines: IO[bytes] | None) -> None:
        self.file = file
        self.lines = lines
        self.length = 0
        self._unsent = 0

    def append(self, made: memoryview, span: Span) -> None:
        """Add some of the samples of a chunk."""
        begin, end, count = span
        samples = made[begin:end]
        self.file.write(SEPARATOR if self.length else b"[\n")
        self.file.write(samples)
        if self.lines is not None:
            self.lines.write(bytes(samples).replace(SEPARATOR, b"\n") + b"\n")
        self.length += count
        self._unsent += len(samples)
        if self._unsent > WRITE_BEHIND and sys.platform == "linux":
            # Of pages that it is told to forget, the kernel first begins to write those that are new.
            with suppress(OSError):
                os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._unsent = 0

    def end(self) -> None:
        self.file.write(b"\n]\n" if self.length else b"[]\n")


class _Output:
    """The open files of a build and what has been written to them."""

    def __init__(self, config: BuildConfig, stack: ExitStack) -> None:
        self.config = config
        self.stages = {stage: self._array(name, stack) for stage, name in STAGE_FILES.items()}
        self.heldout_stages = {stage: self._array(f"{name}_heldout", stack) for stage, name in STAGE_FILES.items()}
        self.heldout = stack.enter_context(atomic_write(config.output / "heldout.jsonl", "wb"))
        self.rejects = stack.enter_context(atomic_write(config.output / "rejects.jsonl", "wb"))
        self.counts: Counter[str] = Counter()
        self.faults: dict[str, Counter[str]] = {name: Counter() for name in WORKFLOWS}
        self.lines: Counter[str] = Counter()
        self.tiers: dict[int | None, Counter[str]] = {tier: Counter() for tier in sorted(config.curation.delta)}
        self.statistics = Statistics()
        self.extremes = Extremes()
        self._shown: dict[int, bytes] = {}
        self.pair_ids: set[str] = set()
        self.repeats = 0
        self._first: dict[str, int] | None = None
        self.prompts: set[str] = set()
        self.sampled: set[str] = set()
        self.heldout_prompts: set[str] = set()
        self.heldout_sampled: set[str] = set()

    def repeated(self, chunk: Chunk) -> dict[int, str]:
        """Line and pair_id of the pairs whose pair_id stood there before; a row that is no pair takes no pair_id."""
        found: dict[int, str] = {}
        for done in chunk.done:
            if done.outcome == "bad_row":
                continue
            if done.pair_id in self.pair_ids:
                found[done.number] = done.pair_id
            self.pair_ids.add(done.pair_id)
        return found

    def repeat(self, number: int, pair_id: str, line: bytes) -> None:
        """Count a pair that stood there before; where it says something else than the first time it is a bad row."""
        if self._first is None:  # it is rare, so that not every build holds what each pair says
            self._first = {
                pair.pair_id: meaning(pair) for pair in read_pairs(self.config.metadata, PairRecord, lambda _: None)
            }
        if meaning(pair_of_line(line, pair_id)) == self._first[pair_id]:
            self.repeats += 1
            return
        self.reject(Done(number, pair_id, "bad_row", f"line {number}: {TWICE}"))

    def add(self, chunk: Chunk) -> None:
        """Write what came of some pairs."""
        self.statistics.merge(chunk.statistics)
        made = memoryview(chunk.samples)
        for done in chunk.done:
            for problem in done.problems:
                self.faults[problem.workflow][problem.kind] += 1
            if done.outcome in REJECTED:
                self.reject(done)
            else:
                self.counts[done.outcome] += 1
                self._write(done, made)

    def show(self, extremes: Extremes, lines: Sequence[Line]) -> None:
        """Take what stands out among some pairs into the gallery."""
        self.extremes.merge(extremes)
        wanted = {number for numbers in self.extremes.numbers.values() for number in numbers}
        self._shown = {number: line for number, line in (*self._shown.items(), *lines) if number in wanted}

    def gallery(self, annotations: Annotations) -> str:
        """HTML of the pairs that stand out."""
        groups = {
            group: [annotations.of(pair_of_line(self._shown[number], f"line {number}")) for number in numbers]
            for group, numbers in self.extremes.numbers.items()
        }
        return gallery(groups, self.config.metadata.parent)

    def close(self) -> Row:
        """End the arrays and return the summary. Raises DataFileError when there is no sample."""
        config = self.config
        if not self.prompts:
            faults = {name: dict(counts) for name, counts in self.faults.items() if counts}
            raise DataFileError(
                f"{config.annotations}: no training sample can be made; pairs by outcome: {dict(self.counts)}; "
                f"annotations that are missing or bad: {faults} "
                "(annotate first; lower --heldout or raise --delta where all pairs were set aside)"
            )
        for array in (*self.stages.values(), *self.heldout_stages.values()):
            array.end()
        if not config.lines:  # those of an earlier build have other samples
            for name in STAGE_FILES.values():
                for suffix in ("", "_heldout"):
                    (config.output / f"{name}{suffix}.jsonl").unlink(missing_ok=True)
        curation = config.curation
        return {
            "template": config.template,
            "reply_form": config.reply_form,
            "delta": {_tier_name(tier): curation.limit(tier) for tier in self.tiers},
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
            "tiers": {_tier_name(tier): dict(by_outcome) for tier, by_outcome in self.tiers.items()},
            "samples": {stage: array.length for stage, array in self.stages.items()},
            "heldout_samples": {stage: array.length for stage, array in self.heldout_stages.items()},
            "statistics": self.statistics.to_dict(),
        }

    def _array(self, name: str, stack: ExitStack) -> _JsonArray:
        folder = self.config.output
        file = stack.enter_context(atomic_write(folder / f"{name}.json", "wb"))
        lines = stack.enter_context(atomic_write(folder / f"{name}.jsonl", "wb")) if self.config.lines else None
        return _JsonArray(file, lines)

    def _write(self, done: Done, made: memoryview) -> None:
        self.tiers.setdefault(done.tier, Counter())[done.outcome] += 1
        for problem in done.problems:
            self._reject_line(done.pair_id, problem.kind, problem.reason, problem.workflow)
        if done.outcome == "heldout":
            self.heldout_prompts.add(done.prompt_id)
            self.heldout.write(done.row + b"\n")
            self._write_samples(done, made, self.heldout_stages, self.heldout_sampled)
        elif done.outcome == "kept":
            self.prompts.add(done.prompt_id)
            self._write_samples(done, made, self.stages, self.sampled)

    def _write_samples(self, done: Done, made: memoryview, stages: dict[str, _JsonArray], sampled: set[str]) -> None:
        """Write what samples a pair has; that of its prompt where it has not been written yet."""
        if done.prompt is not None and done.prompt_id not in sampled:
            sampled.add(done.prompt_id)
            stages["t2ia"].append(made, done.prompt)
        for stage, span in (done.stages or {}).items():
            stages[stage].append(made, span)

    def reject(self, done: Done) -> None:
        """Record that a pair gives no sample, and why."""
        self.counts[done.outcome] += 1
        self._reject_line(done.pair_id, cast(RejectKind, done.outcome), done.reason)  # one of REJECTED

    def _reject_line(self, pair_id: str, kind: RejectKind, reason: str, workflow: Workflow | None = None) -> None:
        self.lines[kind] += 1
        detail = {"workflow": workflow} if workflow else {}
        self.rejects.write(to_line(Reject(key=pair_id, kind=kind, reason=reason, detail=detail).row(PairRecord.KEY)))
        if kind not in ("not_annotated", "missing_annotation"):
            logger.warning("%s: %s", pair_id, reason)


def _tier_name(tier: int | None) -> str:
    return "unknown" if tier is None else str(tier)
