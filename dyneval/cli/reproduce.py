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

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dyneval.cli.running import run
from dyneval.cli.student import StudentOptions
from dyneval.errors import DataFileError, SchemaError, SettingError
from dyneval.evaluation.options import EvaluationOptions
from dyneval.evaluation.paper import EVALUATORS, TABLES, PaperDataset, PaperTable
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.cli.score_first import StudentConfig
    from dyneval.evaluation.tables import Table

# The size of a student in the name of its checkpoint. The last one counts, since folders above may be called so; the
# digits of a hash are none.
_SIZE = re.compile(r"(?<![0-9a-f])[24]b(?![0-9a-f])")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproduceOptions:
    """Which table, from which data, and who scores."""

    table: Annotated[str | None, arg(", ".join(TABLES), position=True, choices=tuple(TABLES), metavar="TABLE")] = None
    list: Annotated[bool, arg("name the tables, what each wants below --data, and what is there")] = False
    data: Annotated[Path | None, arg("folder with a folder for each benchmark")] = None
    only: Annotated[tuple[str, ...], arg("of the table's benchmarks only these", nargs="+", metavar="NAME")] = ()
    output: Annotated[Path | None, arg("folder for scores, tables (CSV, Markdown, LaTeX, HTML) and reports")] = None
    score: Annotated[str, arg("which of DynEval's scores is compared with people's")] = "overall"
    beside: Annotated[
        str | None,
        arg(
            "whose published values stand beside ours; default: those of the student that --checkpoint names, else 4B",
            choices=tuple(EVALUATORS),
        ),
    ] = None
    evaluation: Annotated[EvaluationOptions, arg("")] = field(default_factory=EvaluationOptions)
    student: Annotated[StudentOptions, arg("student, which scores the images")] = field(default_factory=StudentOptions)

    def __post_init__(self) -> None:
        if not (self.list or (self.table and self.data and self.student.checkpoint and self.output)):
            raise SettingError("name a table, --data, --checkpoint and --output, or --list")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(ReproduceOptions, argv)
    return run(parser, _list if options.list else _reproduce, options)


def _list(options: ReproduceOptions) -> int:
    data = options.data or Path("DATA")
    for name, table in TABLES.items():
        if options.table not in (None, name):
            continue
        print(f"{name}: {table.title}")
        if table.reason:
            print(f"  not from public data: {table.reason}")
        for part in table.datasets:
            there = " (here)" if part.find(data) else ""
            print(f"  {part.wanted(data).replace(chr(10), chr(10) + '  ')}{there}")
            if part.note:
                print(f"    note: {part.note}")
    return 0


def _reproduce(options: ReproduceOptions) -> int:
    from dyneval.evaluation.benchmarks.base import LayoutError, RatingError

    name, data, output = options.table, options.data, options.output
    assert name is not None and data is not None and output is not None
    table = TABLES[name]
    parts = _chosen(table, options)
    evaluator = options.student.named()
    assert evaluator is not None  # --checkpoint is there
    evaluator = replace(evaluator, load=cache(evaluator.load))  # once for all benchmarks
    made: Table | None = None
    failed = False
    rows: list[list[str]] = []
    notes: list[str] = []
    for part in parts:
        found = part.find(data)
        if found is None:
            print(f"not here: {part.wanted(data)}", file=sys.stderr)
            failed = True
            continue
        try:
            made, is_whole = _made(options, table, part, found, evaluator, rows, notes)
        except (LayoutError, RatingError, DataFileError, SchemaError) as error:
            # A fault of this set. What would stop every set, such as a student that cannot be loaded, ends the run.
            print(f"{part.name}: {error}", file=sys.stderr)
            is_whole = False
        failed = failed or not is_whole
        if made:
            # After every part: what is known is on disk while the next one is scored.
            files = made.write(output, name)
    if made:
        print(f"{table.title}\n{made.render()}")
        for note in made.notes:
            print(note, file=sys.stderr)
        print(f"\n{options.table} as {', '.join(file.name for file in files)} in {options.output}")
    return 1 if failed else 0


def _chosen(table: PaperTable, options: ReproduceOptions) -> list[PaperDataset]:
    """The parts of the table that were asked for. Raises SettingError: it has none, or none of that name or score."""
    if table.reason:
        raise SettingError(f"{options.table}: not from public data: {table.reason}")
    if options.score != "overall" and table.kind != "agreement":
        raise SettingError(f"--score {options.score}: the table {options.table} is of overall scores")
    names = [part.name for part in table.datasets]
    for name in options.only:
        if name not in names:
            raise SettingError(f"--only {name}: {options.table} has {', '.join(names)}")
    return [part for part in table.datasets if part.name in (options.only or names)]


def _made(
    options: ReproduceOptions,
    table: PaperTable,
    part: PaperDataset,
    found: tuple[Path, Path],
    evaluator: StudentConfig,
    rows: list[list[str]],
    notes: list[str],
) -> tuple[Table, bool]:
    """Score a part and compare it; the table so far, and whether all its images have a score."""
    from dyneval.cli.score_first import score_first
    from dyneval.evaluation import reproduce
    from dyneval.evaluation.benchmarks import BENCHMARKS
    from dyneval.evaluation.comparison import EvaluatorComparison
    from dyneval.evaluation.folds import within
    from dyneval.evaluation.run_benchmark import BenchmarkRun, run_benchmark
    from dyneval.evaluation.run_leaderboard import LeaderboardRun, run_leaderboard
    from dyneval.evaluation.tables import Table
    from dyneval.evaluation.unscored import drawn_images, rated_images

    annotations, images = found
    assert options.output is not None and options.data is not None
    output = options.output / part.name
    scores = output / "scores.jsonl"
    if table.kind == "agreement":
        benchmark = BENCHMARKS[part.name]
        if fold := part.fold_file(options.data):
            benchmark = within(benchmark, fold)
        failed = score_first(evaluator, rated_images(benchmark, annotations), images, scores)
        outcome = run_benchmark(
            BenchmarkRun(
                benchmark=benchmark,
                annotations=annotations,
                output=output,
                images=images,
                scores=[(evaluator.name, scores)],
                field=options.score,
                **asdict(options.evaluation),
            )
        )
        assert isinstance(outcome.comparison, EvaluatorComparison)  # no table of the paper is of preferences
        # The published values beside ours are those of the student of the same size.
        name = f"{options.student.checkpoint} {options.student.subfolder or ''}".lower()
        beside = options.beside or ("DynEval-2B" if _SIZE.findall(name)[-1:] == ["2b"] else "DynEval-4B")
        rows.append(reproduce.agreement_row(outcome.comparison, beside))
        reason = outcome.comparison.evaluators[0].agreement.srcc.reason
        notes += [f"{benchmark.title}: {text}" for text in (part.note, reason) if text]
        return Table(reproduce.AGREEMENT_HEADINGS, list(rows), (reproduce.NOTE, *notes)), not failed
    failed = score_first(evaluator, drawn_images(annotations, images), images, scores, alone=True)
    if table.kind == "questions":
        made = reproduce.questions_table(scores, resamples=options.evaluation.resamples, seed=options.evaluation.seed)
        return made, not failed
    board = run_leaderboard(
        LeaderboardRun(
            scores=[scores],
            prompts=annotations,
            model_from="folder",
            images=images,
            output=output,
            **asdict(options.evaluation),
        )
    ).board
    return (reproduce.models_table if table.kind == "models" else reproduce.tiers_table)(board), not failed
