"""Make a table of the paper anew from public data: published value, ours with its interval, and the difference.

    dyneval reproduce --list                                     # the tables, and what each wants below --data
    dyneval reproduce agreement --data benchmarks/ --checkpoint dyneval-4b --output reproduced/
    dyneval reproduce agreement --data benchmarks/ --only tifa richhf --checkpoint dyneval-2b --output small/
    dyneval reproduce leaderboard --data benchmarks/ --checkpoint dyneval-4b --output reproduced/

Each benchmark lies in a folder of its name below --data, as it was downloaded, with its images in `images`. It is
scored into <output>/<name>/scores.jsonl, then compared as `dyneval benchmark` or `dyneval leaderboard` do. The same
command goes on where it was. What is missing is named with where to get it; the rest is made all the same, and the exit
status is then 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.cli.evaluation import add_evaluation, evaluation_options
from dyneval.cli.running import run
from dyneval.cli.student import add_scoring, add_student, parse, student
from dyneval.errors import SettingError
from dyneval.evaluation.paper import EVALUATORS, TABLES, PaperTable, Part
from dyneval.flags import Parser

if TYPE_CHECKING:
    from dyneval.cli.score_first import Student
    from dyneval.evaluation.tables import Table


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    if arguments.list:
        return run(parser, lambda: _list(arguments))
    if not (arguments.table and arguments.data and arguments.checkpoint and arguments.output):
        parser.error("name a table, --data, --checkpoint and --output, or --list")
    return run(parser, lambda: _reproduce(arguments))


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("table", nargs="?", choices=list(TABLES), metavar="TABLE", help=", ".join(TABLES))
    add("--list", action="store_true", help="name the tables, what each wants below --data, and what is there")
    add("--data", type=Path, help="folder with a folder for each benchmark")
    add("--only", nargs="+", default=[], metavar="NAME", help="of the table's benchmarks only these")
    add("--output", type=Path, help="folder for scores, tables (CSV, Markdown, LaTeX, HTML) and reports")
    add("--score", default="overall", help="which of DynEval's scores is compared; default: %(default)s")
    text = "whose published values stand beside ours; default: those of the student that --checkpoint names, else 4B"
    add("--beside", choices=EVALUATORS, help=text)
    add_evaluation(parser)
    add_student(parser, "score the images with this")
    add_scoring(parser)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    data = arguments.data or Path("DATA")
    for name, table in TABLES.items():
        if arguments.table not in (None, name):
            continue
        print(f"{name}: {table.title}")
        if table.reason:
            print(f"  not from public data: {table.reason}")
        for part in table.parts:
            there = " (here)" if part.find(data) else ""
            print(f"  {part.wanted(data).replace(chr(10), chr(10) + '  ')}{there}")
            if part.note:
                print(f"    note: {part.note}")
    return 0


def _reproduce(arguments: argparse.Namespace) -> int:
    from dyneval.evaluation.benchmarks.base import LayoutError

    table = TABLES[arguments.table]
    parts = _chosen(table, arguments)
    evaluator = student(arguments)
    assert evaluator is not None  # --checkpoint is there
    evaluator = replace(evaluator, load=cache(evaluator.load))  # once for all benchmarks
    made: Table | None = None
    failed = False
    rows: list[list[str]] = []
    notes: list[str] = []
    for part in parts:
        found = part.find(arguments.data)
        if found is None:
            print(f"not here: {part.wanted(arguments.data)}", file=sys.stderr)
            failed = True
            continue
        try:
            made, is_whole = _made(arguments, table, part, found, evaluator, rows, notes)
        except LayoutError as error:
            print(error, file=sys.stderr)
            is_whole = False
        failed = failed or not is_whole
        if made:
            files = made.write(arguments.output, arguments.table)
    if made:
        print(f"{table.title}\n{made.render()}")
        for note in made.notes:
            print(note, file=sys.stderr)
        print(f"\n{arguments.table} as {', '.join(file.name for file in files)} in {arguments.output}")
    return 1 if failed else 0


def _chosen(table: PaperTable, arguments: argparse.Namespace) -> list[Part]:
    """The parts of the table that were asked for. Raises SettingError: it has none, or none of that name."""
    if table.reason:
        raise SettingError(f"{arguments.table}: not from public data: {table.reason}")
    names = [part.name for part in table.parts]
    for name in arguments.only:
        if name not in names:
            raise SettingError(f"--only {name}: {arguments.table} has {', '.join(names)}")
    return [part for part in table.parts if part.name in (arguments.only or names)]


def _made(
    arguments: argparse.Namespace,
    table: PaperTable,
    part: Part,
    found: tuple[Path, Path],
    evaluator: Student,
    rows: list[list[str]],
    notes: list[str],
) -> tuple[Table, bool]:
    """Score a part and compare it; the table so far, and whether all its images have a score."""
    from dyneval.cli.score_first import score_first
    from dyneval.evaluation import reproduce
    from dyneval.evaluation.benchmarks import BENCHMARKS
    from dyneval.evaluation.comparison import Comparison
    from dyneval.evaluation.run_benchmark import BenchmarkRun, run_benchmark
    from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard
    from dyneval.evaluation.unscored import drawn_images, rated_images

    annotations, images = found
    output = arguments.output / part.name
    scores = output / "scores.jsonl"
    options = evaluation_options(arguments)
    if table.kind == "agreement":
        benchmark = BENCHMARKS[part.name]
        failed = score_first(evaluator, rated_images(benchmark, annotations), images, scores)
        outcome = run_benchmark(
            BenchmarkRun(
                benchmark=benchmark,
                annotations=annotations,
                output=output,
                images=images,
                scores=[(evaluator.name, scores)],
                field=arguments.score,
                **options,
            )
        )
        assert isinstance(outcome.comparison, Comparison)  # no table of the paper is of preferences
        rows.append(reproduce.agreement_row(outcome.comparison, _beside(arguments)))
        notes += [f"{benchmark.title}: {part.note}"] if part.note else []
        return reproduce.agreement_table(rows, notes), not failed
    failed = score_first(evaluator, drawn_images(annotations, images), images, scores)
    if table.kind == "questions":
        made = reproduce.questions_table(scores, resamples=arguments.resamples, seed=arguments.seed)
        return made, not failed
    board = run_leaderboard(
        LeaderboardRun(
            scores=[scores], prompts=annotations, model_from="folder", images=images, output=output, **options
        )
    ).board
    return (reproduce.models_table if table.kind == "models" else reproduce.tiers_table)(board), not failed


def _beside(arguments: argparse.Namespace) -> str:
    """The evaluator of the paper that stands beside the student."""
    name = f"{arguments.checkpoint} {arguments.subfolder or ''}".lower()
    return arguments.beside or ("DynEval-2B" if "2b" in name else "DynEval-4B")
