"""From annotations and scores to tables, figures and a report: what `dyneval benchmark` runs.

Everything is read and compared before the first file is written, so a run whose input cannot be used leaves the
results of an earlier one as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.errors import SettingError
from dyneval.evaluation import rejects, tables
from dyneval.evaluation.benchmarks.base import Benchmark, load
from dyneval.evaluation.calibration import LEVEL
from dyneval.evaluation.comparison import EvaluatorComparison, compare, refuse_same_names
from dyneval.evaluation.folds import fold_table, with_folds
from dyneval.evaluation.matching import match
from dyneval.evaluation.options import EvaluationOptions
from dyneval.evaluation.preference import PreferenceComparison, compare_preferences
from dyneval.evaluation.scales import ALL, scales_table
from dyneval.evaluation.scores import is_record, read_records, read_scores
from dyneval.evaluation.tables import Table
from dyneval.files.atomic import refuse_overwrite, write_json
from dyneval.files.tables import rows

if TYPE_CHECKING:
    from dyneval.evaluation.report.base import Chart
    from dyneval.evaluation.report.gallery import Gallery


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRun(EvaluationOptions):
    """What to compare, and where to leave it.

    Attributes (beside those of `EvaluationOptions`):
        benchmark: from `BENCHMARKS`, or a table of one's own.
        annotations: the file or folder that `benchmark.layout` describes.
        output: folder for tables, report and pictures; None only returns them.
        images: folder of the images, for the report's gallery.
        scores: names of evaluators, each with its file.
        rated: which of the benchmark's ratings; None takes the first, "all" also sets every one beside each part of
            the scores.
        folds: tables that say in which fold an image was tested.
        level: of the interval for a new image's rating, 0-1.
        field: which score of a ScoreRecord, or which column of a table.
    """

    benchmark: Benchmark
    annotations: Path
    output: Path | None = None
    images: Path | None = None
    scores: Sequence[tuple[str, Path]]
    rated: str | None = None
    folds: Sequence[Path] = ()
    field: str = "overall"
    level: float = LEVEL


@dataclass(frozen=True, slots=True)
class BenchmarkOutcome:
    """The comparison, its tables by heading, and the files that were written."""

    comparison: EvaluatorComparison | PreferenceComparison
    tables: dict[str, Table]
    files: list[Path]


def run_benchmark(run: BenchmarkRun) -> BenchmarkOutcome:
    """Compare evaluators with the raters of a benchmark, and write tables, figures and report.

    Raises:
        LayoutError, RatingError, DataFileError, SchemaError: an input cannot be used; the message says which and why.
        SettingError: arguments that do not go together.
        ReportError: a library for the report is missing.
    """
    rated = load(run.benchmark, run.annotations, None if run.rated == ALL else run.rated)
    rated.items = with_folds(rated.items, run.folds)
    if not 0 < run.level < 1:
        raise SettingError(f"--level {run.level:g}: expected a number between 0 and 1, such as 0.9")
    refuse_same_names([name for name, _ in run.scores])
    scored = [read_scores(path, run.field, name) for name, path in run.scores]
    found: EvaluatorComparison | PreferenceComparison
    if rated.benchmark.fields[rated.rated].is_preference:
        if run.folds:
            raise SettingError("--folds: preferences are compared within prompts, not by fold")
        found = compare_preferences(rated, scored, resamples=run.resamples, seed=run.seed)
        shown = tables.preference_tables(found)
    else:
        found = compare(rated, scored, resamples=run.resamples, seed=run.seed, level=run.level)
        shown = _tables(found)
    if run.rated == ALL:
        options = {"resamples": run.resamples, "seed": run.seed}
        shown["Scales"] = scales_table(run.benchmark, run.annotations, run.scores, run.field, **options)
    return BenchmarkOutcome(found, shown, _write(run.output, run, found, shown) if run.output else [])


def _tables(found: EvaluatorComparison) -> dict[str, Table]:
    shown = {"Agreement": tables.agreement_table(found)}
    if found.differences:
        shown["Differences"] = tables.difference_table(found)
    if any(result.calibration for result in found.evaluators):
        shown["Calibration"] = tables.calibration_table(found)
    if any(result.categories for result in found.evaluators):
        shown["Categories"] = tables.category_table(found)
    if any(result.folds for result in found.evaluators):
        shown["Folds"] = fold_table(found)
    return shown


def _write(
    output: Path, run: BenchmarkRun, found: EvaluatorComparison | PreferenceComparison, shown: dict[str, Table]
) -> list[Path]:
    given = (run.annotations, *run.folds, *(path for _, path in run.scores))
    read = [path for path in given if path.is_file()]
    refuse_overwrite(read, tables.files(output, ["agreement", *map(str.lower, shown)]))
    write_json(output / "agreement.json", found.to_dict())
    written = [output / "agreement.json", *rejects.write(output, found.rejects)]
    for heading, table in shown.items():
        written += table.write(output, heading.lower())
    charts: list[Chart] = []
    if isinstance(found, EvaluatorComparison) and (run.report or run.pictures):
        from dyneval.evaluation.report.agreement_charts import comparison_charts
        from dyneval.evaluation.report.pictures import write_pictures

        charts = comparison_charts(found)
        if run.pictures:
            written += write_pictures(output / "pictures", charts, run.pictures)
    # The report's libraries take seconds to import, so a run without it does not import them.
    if run.report:
        from dyneval.evaluation.report.page import Report, write_report

        page = output / "report.html"
        gallery = _gallery(run, found, page) if isinstance(found, EvaluatorComparison) else None
        title = f"Agreement with people on {found.rated.benchmark.title}"
        # The notes of tables stand below them.
        notes = [f"{key}: {reason}" for key, reason in gallery.unreadable.items()] if gallery else []
        write_report(
            page, Report(title, _lead(found), tables=shown, agreement_charts=charts, gallery=gallery, notes=notes)
        )
        written.append(page)
    return written


def _lead(found: EvaluatorComparison | PreferenceComparison) -> str:
    rated = found.rated
    if isinstance(found, PreferenceComparison):
        groups = len({item.group for item in rated.items})
        return f"{len(rated.items):,} images in {groups:,} groups that people put in order."
    meaning = rated.benchmark.fields[rated.rated].meaning
    names = ", ".join(result.name for result in found.evaluators)
    return f"{len(rated.items):,} images rated by people ({meaning}), scored by {names}."


def _gallery(run: BenchmarkRun, found: EvaluatorComparison, page: Path) -> Gallery | None:
    """The gallery of the first evaluator that left ScoreRecords; None without one or without images."""
    source = next((path for _, path in run.scores if is_record(next(rows(path), {}))), None)
    if source is None or run.images is None:
        return None
    from dyneval.evaluation.report.gallery import GalleryImage, build_gallery

    # Read twice: once for the names, once for the records, of which a large file does not fit into memory.
    belonging = match(found.rated.items, [(record.pair_id, record.image) for record in read_records(source)])
    entries = []
    for record, items in zip(read_records(source), belonging, strict=True):
        item = next(iter(items), None)
        score = getattr(record, run.field, None) if run.field in ("overall", "t2ia", "iqa") else record.overall
        if item is not None and score is not None and math.isfinite(item.rating):
            entries.append(
                GalleryImage(
                    pair_id=record.pair_id,
                    model=item.model or "unknown model",
                    # Tiers are those of a leaderboard; benchmarks name none.
                    tier=None,
                    prompt=record.prompt,
                    categories=item.categories,
                    image=item.image,
                    t2ia=record.t2ia,
                    iqa=record.iqa,
                    overall=score,
                    rating=item.rating,
                )
            )
    return build_gallery(entries, [source], run.images, page, workers=run.workers) if entries else None
