"""From score files or a published table to a leaderboard, with tables and report: what `dyneval leaderboard` runs.

Everything is read and ranked before the first file is written, so a run whose input cannot be used leaves the board of
an earlier one as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyneval.errors import SettingError
from dyneval.evaluation import board_tables, rejects, tables
from dyneval.evaluation.benchmarks import generic
from dyneval.evaluation.benchmarks.base import RatedImage, RatedSet
from dyneval.evaluation.comparison import EvaluatorComparison, compare
from dyneval.evaluation.leaderboard import Board, build_board
from dyneval.evaluation.options import EvaluationOptions
from dyneval.evaluation.published_table import is_published_table, read_board
from dyneval.evaluation.scored import ModelFrom, ScoredSet, read_scored
from dyneval.evaluation.scores import ScoreTable, align, read_scores
from dyneval.evaluation.tables import Table
from dyneval.evaluation.tiers import propose_tiers
from dyneval.files.atomic import refuse_overwrite, write_json

if TYPE_CHECKING:
    from dyneval.evaluation.report.base import Chart
    from dyneval.evaluation.report.gallery import Gallery


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardRun(EvaluationOptions):
    """What to rank, and where to leave it.

    Attributes (beside those of `EvaluationOptions`):
        scores: score files of DynEval, or one CSV table of published scores.
        output: folder for tables, report and pictures; None only returns them.
        metadata: metadata.jsonl of GenDB, or its folder, for T2I model, tier and categories of each pair.
        prompts: prompt list with categories, such as DynEval-1K's.
        models: CSV with model, tier, year.
        model_from: where the T2I model's name comes from when there is no metadata.
        images: folder of the images, for the gallery.
        ratings: table of human ratings of the images (id or image, rating).
        score: which of DynEval's scores ranks, one of `dyneval.evaluation.scores.FIELDS`.
        title: heading of the report.
    """

    scores: Sequence[Path]
    output: Path | None = None
    metadata: Sequence[Path] = ()
    prompts: Path | None = None
    models: Path | None = None
    model_from: ModelFrom = "file"
    images: Path | None = None
    ratings: Path | None = None
    score: str = "overall"
    title: str = "Text-to-image models"


@dataclass(frozen=True, slots=True)
class LeaderboardOutcome:
    """The board, its tables by heading, and the files that were written."""

    board: Board
    tables: dict[str, Table]
    files: list[Path]


def run_leaderboard(run: LeaderboardRun) -> LeaderboardOutcome:
    """Rank T2I models, and write tables, charts and report.

    Raises:
        DataFileError, SchemaError, RatingError: an input cannot be used; the message says which and why.
        SettingError: arguments that do not go together.
        ReportError: a library for the report is missing.
    """
    scored: ScoredSet | None = None
    comparison: EvaluatorComparison | None = None
    if len(run.scores) == 1 and is_published_table(run.scores[0]):
        if run.score != "overall":
            raise SettingError(f"--score {run.score}: a table of published scores has one, overall")
        board = read_board(run.scores[0])
    else:
        if any(map(is_published_table, run.scores)):
            raise SettingError("a table of published scores stands alone: it does not mix with other score files")
        scored = read_scored(
            run.scores,
            metadata=run.metadata,
            prompts=run.prompts,
            models=run.models,
            model_from=run.model_from,
            score=run.score,
        )
        board = build_board(scored, resamples=run.resamples, seed=run.seed)
        comparison = _compare(run.ratings, run, scored) if run.ratings else None
        board.notes += rejects.notes(comparison.rejects, comparison.repeated) if comparison else []
    shown = _tables(board)
    written = _write(run.output, run, board, shown, scored, comparison) if run.output else []
    return LeaderboardOutcome(board, shown, written)


def _compare(ratings: Path, run: LeaderboardRun, scored: ScoredSet) -> EvaluatorComparison:
    """Compare the board's scores with people's ratings of the same images."""
    items = [
        RatedImage(
            item_id=image.pair_id,
            image=image.image,
            prompt=image.prompt,
            ratings=(),
            model=scored.models[image.model].name,
            categories=image.categories,
        )
        for image in scored
    ]
    # A table of ratings looks like a table of scores, so the same rules find its images and refuse its doubts.
    table = read_scores(ratings, "rating")
    given = align(items, table)
    benchmark = generic.benchmark(title=ratings.name)
    rated = RatedSet(benchmark, "rating", rejects=table.rejects, repeated=table.repeated)
    own: dict[str, float] = {}
    for item_id, item, rating, ranked in zip(_ids(scored), items, given, scored.ranked, strict=True):
        # Not NaN, which differs from itself: this image was rated.
        if rating == rating:
            rated.items.append(replace(item, item_id=item_id, ratings=(rating,)))
        own[item_id] = ranked
    return compare(rated, [ScoreTable(scored.evaluator, own)], resamples=run.resamples, seed=run.seed)


def _ids(scored: ScoredSet) -> list[str]:
    """An id of each image that no other has: score files of two models may call their images alike."""
    names = scored.pair_ids.things
    codes = scored.pair_ids.codes
    if len(np.unique(codes)) == len(codes):
        return [names[code] for code in codes]
    models = [scored.models[name].name for name in scored.model_of.things]
    return [f"{models[model]}/{names[code]}" for model, code in zip(scored.model_of.codes, codes, strict=True)]


def _tables(board: Board) -> dict[str, Table]:
    shown = {"Leaderboard": board_tables.models_table(board)}
    if board.tiers:
        shown["Tiers"] = board_tables.tier_table(board)
    if board.dimensions:
        shown["Dimensions"] = board_tables.dimensions_table(board)
        shown["Sub-categories"] = board_tables.categories_table(board)
    if board.duels:
        shown["Head to head"] = board_tables.duels_table(board.duels)
    # Three tiers need three scores that differ.
    if len({row.mean for row in board.rows}) >= 3:
        shown["Proposed tiers"] = board_tables.proposal_table(propose_tiers(board))
    return shown


def _write(
    output: Path,
    run: LeaderboardRun,
    board: Board,
    shown: dict[str, Table],
    scored: ScoredSet | None,
    comparison: EvaluatorComparison | None,
) -> list[Path]:
    stems = {heading: heading.lower().replace(" ", "_").replace("-", "_") for heading in shown}
    # An output folder may be the one that an input lies in.
    read = [*run.scores, *run.metadata, *(path for path in (run.prompts, run.models, run.ratings) if path)]
    refuse_overwrite(filter(Path.is_file, read), tables.files(output, ["leaderboard", "agreement", *stems.values()]))
    write_json(output / "leaderboard.json", board.to_dict())
    written = [output / "leaderboard.json"]
    for heading, table in shown.items():
        written += table.write(output, stems[heading])
    if comparison:
        write_json(output / "agreement.json", comparison.to_dict())
        written += [output / "agreement.json", *rejects.write(output, comparison.rejects)]
    if run.report or run.pictures:
        written += _draw(output, run, board, scored, comparison)
    return written


def _draw(
    output: Path, run: LeaderboardRun, board: Board, scored: ScoredSet | None, comparison: EvaluatorComparison | None
) -> list[Path]:
    # Imported here: jinja2 and the charts take time that a run without report or pictures does not need.
    from dyneval.evaluation.report.agreement_charts import comparison_charts
    from dyneval.evaluation.report.charts import board_charts
    from dyneval.evaluation.report.page import Report, write_report
    from dyneval.evaluation.report.pictures import write_pictures

    ours = board_charts(board, scored)
    theirs: list[Chart] = comparison_charts(comparison) if comparison else []
    written = write_pictures(output / "pictures", [*ours, *theirs], run.pictures) if run.pictures else []
    if not run.report:
        return written
    page = output / "report.html"
    gallery = _gallery(run.images, run, scored, comparison, page) if scored and run.images else None
    duels = board_tables.neighbours(board)
    unread = [f"{key}: {reason}" for key, reason in gallery.unreadable.items()] if gallery else []
    report = Report(
        run.title,
        _lead(board),
        board=board,
        board_charts=ours,
        board_tables={"Each model against the next": board_tables.duels_table(duels)} if duels else {},
        tables={"Agreement": tables.agreement_table(comparison)} if comparison else {},
        agreement_charts=theirs,
        gallery=gallery,
        notes=[*board.notes, *unread],
    )
    write_report(page, report)
    return [*written, page]


def _lead(board: Board) -> str:
    models = f"{len(board.rows)} model{'' if len(board.rows) == 1 else 's'}"
    if not board.prompts:
        return f"{models}, {board.evaluator}."
    images = sum(row.images for row in board.rows)
    ranked = "" if board.ranked_by == "overall" else f", ranked by {board.ranked_by}"
    return f"{images:,} images of {models} for {board.prompts:,} prompts, scored by {board.evaluator}{ranked}."


def _gallery(
    images: Path, run: LeaderboardRun, scored: ScoredSet, comparison: EvaluatorComparison | None, page: Path
) -> Gallery:
    from dyneval.evaluation.report.gallery import GalleryImage, build_gallery

    ratings = {item.item_id: item.rating for item in comparison.rated.items} if comparison else {}
    entries = [
        GalleryImage(
            pair_id=image.pair_id,
            address=item_id,
            model=scored.models[image.model].name,
            tier=scored.models[image.model].tier,
            prompt=image.prompt,
            categories=image.categories,
            image=image.image,
            t2ia=image.t2ia,
            iqa=image.iqa,
            overall=image.overall,
            rating=ratings.get(item_id),
        )
        for image, item_id in zip(scored, _ids(scored), strict=True)
    ]
    return build_gallery(entries, run.scores, images, page, workers=run.workers)
