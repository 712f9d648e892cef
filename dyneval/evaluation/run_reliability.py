"""From the score files of two or more runs to how far they agree: what `dyneval reliability` runs.

The first run is what the others are compared with, so the order in which they are named matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dyneval.errors import SettingError
from dyneval.evaluation import tables
from dyneval.evaluation.bootstrap import ONE_PROMPT
from dyneval.evaluation.comparison import refuse_same_names
from dyneval.evaluation.options import EvaluationOptions
from dyneval.evaluation.reliability import (
    SCORES,
    PairScores,
    Reliability,
    ScoredRun,
    largest_differences,
    other_making,
    read_run,
    reliability,
    shared_pairs,
)
from dyneval.evaluation.tables import Table, estimate, signed
from dyneval.files.atomic import atomic_write, refuse_overwrite, write_json

MOST = 20
"""Pairs in a table of the largest differences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityRun(EvaluationOptions):
    """Which runs to compare, and where to leave it.

    Attributes (beside those of `EvaluationOptions`):
        runs: names of the runs, each with its file of ScoreRecords; the others are compared with the first.
        output: folder for tables, report and pictures; None only returns them.
    """

    runs: Sequence[tuple[str, Path]]
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class ReliabilityOutcome:
    """What was found, its tables by heading, and the files that were written."""

    found: list[Reliability]
    tables: dict[str, Table]
    files: list[Path]


def run_reliability(run: ReliabilityRun) -> ReliabilityOutcome:
    """Compare runs with the first of them and write what was found.

    Raises:
        DataFileError, SchemaError: a file cannot be used; the message says which and why.
        SettingError: the runs do not go together.
        ReportError: a library for the report is missing.
    """
    if len(run.runs) < 2:
        raise SettingError("name two score files or more: the others are compared with the first")
    # Rows, columns and headings are named after the runs.
    refuse_same_names([name for name, _ in run.runs])
    first, *others = (read_run(name, path) for name, path in run.runs)
    found = [one for other in others for one in reliability(first, other, resamples=run.resamples, seed=run.seed)]
    shown = {"Reliability": _table(first, others, found)}
    for other in others:
        if pairs := largest_differences(first, other, _shown_score(found, other), MOST):
            shown[f"Largest differences of {other.name}"] = _differences(
                first, other, _shown_score(found, other), pairs
            )
    return ReliabilityOutcome(found, shown, _write(run.output, run, first, others, found, shown) if run.output else [])


def _shown_score(found: Sequence[Reliability], other: ScoredRun) -> str:
    """The score by which single pairs are shown: overall, or, of runs that scored one part, that part."""
    return next((one.score for one in found if one.second == other.name), SCORES[0])


def _table(first: ScoredRun, others: Sequence[ScoredRun], found: Sequence[Reliability]) -> Table:
    rows = [
        [
            one.second,
            one.score,
            f"{one.pairs:,}",
            *(estimate(value, 3) for value in (one.equal, one.difference, one.shift, one.srcc, one.alpha, one.flips)),
        ]
        for one in found
    ]
    headings = ["run", "score", "pairs", "equal", "mean |difference|", "shift", "SRCC", "alpha", "flips of two"]
    notes = [
        f"each run beside {first.name}, differences on the scale 1-5; alpha: Krippendorff's, for interval data; "
        "flips of two: how often the other of two images of a prompt is the better one; 95 % intervals over prompts"
    ]
    if any(one.equal.reason == ONE_PROMPT for one in found):
        notes.append(ONE_PROMPT)
    if not any(one.couples for one in found):
        notes.append("flips of two: no prompt has two images")
    for other in others:
        if made := other_making(first, other):
            notes.append(f"{first.name} and {other.name} were made with {'; '.join(sorted(made))}")
        # Pairs of one run alone are not compared, which a reader of the counts could not see.
        shared = len(shared_pairs(first, other))
        for one, two in ((first, other), (other, first)):
            if len(one.pairs) > shared:
                notes.append(f"{len(one.pairs) - shared:,} pairs of {one.name} are not in {two.name}")
    return Table(headings, rows, tuple(notes))


def _differences(first: ScoredRun, other: ScoredRun, score: str, pairs: Sequence[str]) -> Table:
    rows = []
    for pair_id in pairs:
        # A long prompt is cut, so that the table fits a terminal; samples.csv has all of it.
        one, two = first.pairs[pair_id], other.pairs[pair_id]
        scores = one.scores[score], two.scores[score]
        prompt = one.prompt if len(one.prompt) <= 80 else f"{one.prompt[:79]}…"
        rows.append(
            [pair_id, prompt, one.image, *(f"{value:.3f}" for value in scores), signed(scores[1] - scores[0], 3)]
        )
    return Table(["pair", "prompt", "image", first.name, other.name, f"{score} (1-5)"], rows)


def _write(
    output: Path,
    run: ReliabilityRun,
    first: ScoredRun,
    others: Sequence[ScoredRun],
    found: Sequence[Reliability],
    shown: dict[str, Table],
) -> list[Path]:
    samples = output / "samples.csv"
    refuse_overwrite((path for _, path in run.runs), [samples, *tables.files(output, ["reliability", "differences"])])
    write_json(output / "reliability.json", {"first": first.name, "runs": [one.to_dict() for one in found]})
    # Every pair of any run, with all its scores in all runs.
    every = (first, *others)
    pairs: dict[str, PairScores] = {}
    for one in every:
        pairs |= {pair_id: pair for pair_id, pair in one.pairs.items() if pair_id not in pairs}
    rows = []
    for pair_id, pair in pairs.items():
        by_run = [one.pairs[pair_id].scores if pair_id in one.pairs else {} for one in every]
        rows.append([pair_id, pair.prompt, pair.image, *(str(of.get(score, "")) for score in SCORES for of in by_run)])
    headings = ["pair_id", "prompt", "image", *(f"{score} {one.name}" for score in SCORES for one in every)]
    with atomic_write(samples) as file:
        file.write(Table(headings, rows).to_csv())
    written = [output / "reliability.json", samples, *shown["Reliability"].write(output, "reliability")]
    if run.report or run.pictures:
        from dyneval.evaluation.report.page import Report, write_report
        from dyneval.evaluation.report.pictures import write_pictures
        from dyneval.evaluation.report.reliability_charts import reliability_charts

        charts = reliability_charts(first, [(other, _shown_score(found, other)) for other in others], found)
        if run.pictures:
            written += write_pictures(output / "pictures", charts, run.pictures)
        if run.report:
            names = ", ".join(other.name for other in others)
            lead = f"{len(first.pairs):,} pairs: {names} compared with {first.name}."
            report = Report(
                "How reliable is the judge?", lead, heading="Reliability", tables=shown, agreement_charts=charts
            )
            write_report(output / "report.html", report)
            written.append(output / "report.html")
    return written
