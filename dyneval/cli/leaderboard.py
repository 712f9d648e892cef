"""Rank text-to-image models by DynEval's scores: intervals, rank ranges, skills, tiers, and a report to look at.

From scores and GenDB's metadata:
    dyneval leaderboard scores.jsonl --metadata gendb/metadata.jsonl --images gendb --output board/
One score file a model, with a prompt list such as DynEval-1K's:
    dyneval leaderboard scores/*.jsonl --prompts dyneval_1k.json --output board/
Straight from images, one folder a model:
    dyneval leaderboard --checkpoint output/dyneval_4b_stage2_iqa --prompts dyneval_1k.json \
        --images images/ --output board/
From a table of published scores:
    dyneval leaderboard published.csv --output board/ --pictures png pdf
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval import __version__
from dyneval.cli.running import run, shared
from dyneval.cli.student import StudentOptions
from dyneval.errors import SettingError
from dyneval.evaluation.options import EvaluationOptions
from dyneval.files.atomic import atomic_write
from dyneval.files.hub import HubOptions
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.cli.score_first import StudentConfig
    from dyneval.evaluation.tables import Table

# Files that are uploaded: not the report, which shows images, and not the files that name the folders of this machine.
PUBLISHED = (".csv", ".md", ".tex")


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardOptions:
    """What is ranked, and where that is written."""

    scores: Annotated[
        tuple[Path, ...],
        arg("score files of DynEval (JSONL), or one CSV table of published scores", position=True),
    ] = ()
    output: Annotated[Path | None, arg("folder for tables (CSV, Markdown, LaTeX, HTML), report.html and pictures")] = (
        None
    )
    metadata: Annotated[
        tuple[Path, ...], arg("metadata.jsonl of GenDB, or its folder: model, tier, categories", nargs="+")
    ] = ()
    prompts: Annotated[Path | None, arg("prompt list with categories: JSON, JSONL, CSV, TSV or Parquet")] = None
    models: Annotated[Path | None, arg("CSV with model, tier, year; the 36 models of the paper are known")] = None
    model_from: Annotated[
        Literal["file", "folder"],
        arg("without metadata, a model is called as its score file or as the folder of its images"),
    ] = "file"
    images: Annotated[
        Path | None, arg("folder of the images, for the report's gallery and for --checkpoint", folder=True)
    ] = None
    ratings: Annotated[
        Path | None, arg("people's ratings of the images: CSV or JSONL with pair_id or image, and rating")
    ] = None
    score: Annotated[str, arg("which one ranks: overall, t2ia, iqa or soft.overall, soft.t2ia, soft.iqa")] = "overall"
    title: Annotated[str, arg("heading of the report")] = "Text-to-image models"
    hub: Annotated[HubOptions, arg("")] = field(default_factory=HubOptions)
    evaluation: Annotated[EvaluationOptions, arg("")] = field(default_factory=EvaluationOptions)
    student: Annotated[
        StudentOptions, arg("student: with --checkpoint, it scores --images (one folder a model) first")
    ] = field(default_factory=StudentOptions)

    def __post_init__(self) -> None:
        if bool(self.scores) == bool(self.student.checkpoint):
            raise SettingError("name score files, or --checkpoint with --prompts and --images")
        if self.hub.push_to_hub and not self.output:
            raise SettingError("--push-to-hub needs --output: the tables that are uploaded")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(LeaderboardOptions, argv)
    return run(parser, _rank, options)


def _rank(options: LeaderboardOptions) -> int:
    from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard

    failed, repository = 0, options.hub.open("dataset")
    if evaluator := options.student.named():
        options, failed = _scored(options, evaluator)
    outcome = run_leaderboard(LeaderboardRun(**shared(options, LeaderboardRun) | asdict(options.evaluation)))
    for heading, table in outcome.tables.items():
        # Others are too wide for a terminal (9 dimensions, 42 sub-categories), or too long: 36 models have 630 duels.
        if heading not in ("Dimensions", "Sub-categories") and len(table.rows) <= 100:
            print(f"\n{heading}\n{table.render()}")
    for note in outcome.board.notes:
        print(note, file=sys.stderr)
    if outcome.files:
        print(f"\n{len(outcome.files)} files in {options.output}, last {outcome.files[-1].name}")
    if repository and options.output:
        _write_card(options.output / "README.md", options.title, outcome.tables)
        # Escaped: the names are patterns to the Hub's library, and a model's name may hold brackets.
        files = ["README.md", *(escape(file.name) for file in outcome.files if file.suffix in PUBLISHED)]
        print(repository.upload(options.output, f"DynEval: {options.title}", files))
    if failed:
        print(f"{failed} images could not be scored, see the rejects file", file=sys.stderr)
    return 1 if failed else 0


def _write_card(path: Path, title: str, tables: Mapping[str, Table]) -> None:
    """The card of a board that is uploaded: what it is, and its first table."""
    first = next(iter(tables.values()))
    head = f"---\npretty_name: {json.dumps(title, ensure_ascii=False)}\ntags: [dyneval, leaderboard]\n---\n"
    text = f"# {title}\n\nText-to-image models ranked by DynEval {__version__}.\n\n{first.render('github')}\n"
    with atomic_write(path) as file:
        file.write(head + text)


def _scored(options: LeaderboardOptions, evaluator: StudentConfig) -> tuple[LeaderboardOptions, int]:
    """Score the images first; what is then ranked, and how many images could not be scored."""
    from dyneval.cli.score_first import score_first
    from dyneval.evaluation.unscored import drawn_images

    if options.prompts is None or options.images is None or options.output is None:
        raise SettingError("--checkpoint needs --prompts, --images and --output")
    path = options.output / "scores.jsonl"
    # `alone`: a score of an image that was deleted since would still rank its model.
    failed = score_first(evaluator, drawn_images(options.prompts, options.images), options.images, path, alone=True)
    student = replace(options.student, checkpoint=None)
    return replace(options, scores=(path,), metadata=(), model_from="folder", student=student), failed
