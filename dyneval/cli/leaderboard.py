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

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dyneval.cli.evaluation import add_evaluation, evaluation_options
from dyneval.cli.running import run
from dyneval.cli.student import add_scoring, add_student, parse, student
from dyneval.errors import SettingError
from dyneval.flags import Parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    if bool(arguments.scores) == bool(arguments.checkpoint):
        parser.error("name score files, or --checkpoint with --prompts and --images")
    return run(parser, lambda: _rank(arguments))


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("scores", nargs="*", type=Path, help="score files of DynEval (JSONL), or one CSV table of published scores")
    add("--output", type=Path, help="folder for tables (CSV, Markdown, LaTeX, HTML), report.html and pictures")
    add(
        "--metadata",
        nargs="+",
        type=Path,
        default=[],
        help="metadata.jsonl of GenDB, or its folder: model, tier, categories",
    )
    add("--prompts", type=Path, help="prompt list with categories: JSON, JSONL, CSV, TSV or Parquet")
    add("--models", type=Path, help="CSV with model, tier, year; the 36 models of the paper are known")
    add(
        "--model-from",
        choices=("file", "folder"),
        default="file",
        help="without metadata, a model is called "
        "as its score file or as the folder of its images; default: %(default)s",
    )
    add("--images", type=Path, help="folder of the images, for the report's gallery and for --checkpoint")
    add("--ratings", type=Path, help="people's ratings of the images: CSV or JSONL with pair_id or image, and rating")
    add("--title", default="Text-to-image models", help="heading of the report")
    add_evaluation(parser)
    add_student(parser, "score --images (one folder a model) with this first")
    add_scoring(parser)
    return parser


def _rank(arguments: argparse.Namespace) -> int:
    from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard

    failed = _score(arguments) if arguments.checkpoint else 0
    outcome = run_leaderboard(
        LeaderboardRun(
            scores=arguments.scores,
            output=arguments.output,
            metadata=arguments.metadata,
            prompts=arguments.prompts,
            models=arguments.models,
            model_from=arguments.model_from,
            images=arguments.images,
            ratings=arguments.ratings,
            title=arguments.title,
            **evaluation_options(arguments),
        )
    )
    for heading, table in outcome.tables.items():
        if heading not in ("Dimensions", "Sub-categories"):  # too wide for a terminal
            print(f"\n{heading}\n{table.render()}")
    for note in outcome.board.notes:
        print(note, file=sys.stderr)
    if outcome.files:
        print(f"\n{len(outcome.files)} files in {arguments.output}, last {outcome.files[-1].name}")
    if failed:
        print(f"{failed} images could not be scored, see the rejects file", file=sys.stderr)
    return 1 if failed else 0


def _score(arguments: argparse.Namespace) -> int:
    """Score the images with --checkpoint and have the scores ranked; returns how many could not be scored."""
    from dyneval.cli.score_first import score_first
    from dyneval.evaluation.unscored import drawn_images

    evaluator = student(arguments)
    if evaluator is None or arguments.prompts is None or arguments.images is None or arguments.output is None:
        raise SettingError("--checkpoint needs --prompts, --images and --output")
    path = arguments.output / "scores.jsonl"
    failed = score_first(evaluator, drawn_images(arguments.prompts, arguments.images), arguments.images, path)
    arguments.scores, arguments.metadata, arguments.model_from = [path], [], "folder"
    return failed
