"""Hold evaluators against human ratings: SRCC, PLCC, KRCC, pairwise accuracy with intervals, beside published figures.

Scores that are there:
    dyneval benchmark --benchmark tifa --annotations human_annotations.json --scores scores.jsonl \
        --compare VQAScore=vqa.csv --images annotated_images/ --output agreement/
Straight from a checkpoint:
    dyneval benchmark --benchmark genai-bench --annotations GenAI-Image-527/genai_image.json \
        --images GenAI-Image-527/ --checkpoint output/dyneval_4b_stage2_iqa --output agreement/
A table of one's own:
    dyneval benchmark --benchmark generic --annotations mine.csv --column rating=mos --scale 1 5 \
        --scores scores.jsonl
`--list` names the benchmarks with their files and sources.
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
from dyneval.evaluation.benchmarks import BENCHMARKS, Benchmark, generic
from dyneval.flags import Parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    if arguments.list:
        return _list_benchmarks()
    if not (arguments.benchmark and arguments.annotations):
        parser.error("name --benchmark and --annotations, or --list")
    if not (arguments.scores or arguments.compare or arguments.checkpoint):
        parser.error("name --scores or --checkpoint")
    return run(parser, lambda: _compare(arguments))


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("--list", action="store_true", help="name the benchmarks: what was rated, items, licence, source, what to pass")
    add("--benchmark", choices=[*BENCHMARKS, "generic"], help="whose annotations these are")
    add("--annotations", type=Path, help="file or folder with the human ratings")
    add("--rating", help="which rating, where a benchmark has several; default: its first")
    add(
        "--column",
        nargs="+",
        default=[],
        metavar="MEANING=NAME",
        help="columns of a generic table: " + ", ".join(generic.COLUMNS),
    )
    add("--scale", nargs=2, type=float, metavar=("LOW", "HIGH"), help="scale of a generic table's ratings")
    add("--images", type=Path, help="folder of the images, for --checkpoint and for the report's gallery")
    add("--scores", nargs="+", default=[], metavar="[NAME=]FILE", help="scores.jsonl of DynEval, or a table of scores")
    add("--compare", nargs="+", default=[], metavar="[NAME=]FILE", help="further evaluators, in the same forms")
    add(
        "--score",
        default="overall",
        help="overall, t2ia, iqa, soft.overall, soft.t2ia, soft.iqa of DynEval's scores, or the "
        "column of a table; default: %(default)s",
    )
    add("--level", type=float, default=0.9, help="of the interval for a new image's rating; default: %(default)s")
    add("--output", type=Path, help="folder for tables (CSV, Markdown, LaTeX, HTML), report.html and pictures")
    add_evaluation(parser)
    add_student(parser, "score the images with this first")
    add_scoring(parser)
    return parser


def _list_benchmarks() -> int:
    """Print every benchmark: what was rated, how many images, licence, where its files are, and what to pass."""
    for benchmark in (*BENCHMARKS.values(), generic.benchmark()):
        print(f"{benchmark.name}: {benchmark.title}\n  items: {benchmark.size or 'as many as the table has'}")
        print(f"  licence: {benchmark.licence}\n  from: {benchmark.source}")
        print(f"  --benchmark {benchmark.name} --annotations: {benchmark.layout}")
        for name, field in benchmark.fields.items():
            scale = "; a preference" if field.is_preference else ""
            scale += "" if field.low is None else f", {field.low:g}-{field.high:g}"
            print(f"  --rating {name}: {field.meaning}{scale}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from dyneval.evaluation.run_benchmark import BenchmarkRun, run_benchmark

    benchmark = _benchmark(arguments)
    scores, failed = _score(arguments, benchmark)
    outcome = run_benchmark(
        BenchmarkRun(
            benchmark=benchmark,
            annotations=arguments.annotations,
            output=arguments.output,
            images=arguments.images,
            scores=[*scores.items(), *(_named(text) for text in (*arguments.scores, *arguments.compare))],
            rated=arguments.rating,
            field=arguments.score,
            level=arguments.level,
            **evaluation_options(arguments),
        )
    )
    for heading, table in outcome.tables.items():
        print(f"\n{heading}\n{table.render()}")
        for note in table.notes:
            print(note, file=sys.stderr)
    if outcome.files:
        print(f"\n{len(outcome.files)} files in {arguments.output}, last {outcome.files[-1].name}")
    return 1 if failed else 0


def _score(arguments: argparse.Namespace, benchmark: Benchmark) -> tuple[dict[str, Path], int]:
    """Score the rated images with --checkpoint, if there is one; the file by name, and how many could not be scored."""
    evaluator = student(arguments)
    if evaluator is None:
        return {}, 0
    from dyneval.cli.score_first import score_first
    from dyneval.evaluation.unscored import rated_images

    if arguments.images is None or arguments.output is None:
        raise SettingError("--checkpoint needs --images and --output")
    path = arguments.output / "scores.jsonl"
    pairs = rated_images(benchmark, arguments.annotations, arguments.rating)
    return {evaluator.name: path}, score_first(evaluator, pairs, arguments.images, path)


def _benchmark(arguments: argparse.Namespace) -> Benchmark:
    """Return the benchmark that the arguments name."""
    if arguments.benchmark != "generic":
        return BENCHMARKS[arguments.benchmark]
    columns = dict(text.split("=", 1) for text in arguments.column if "=" in text)
    if len(columns) < len(arguments.column):
        raise SettingError("--column takes MEANING=NAME, such as rating=mos")
    return generic.benchmark(columns, tuple(arguments.scale) if arguments.scale else None)


def _named(text: str) -> tuple[str, Path]:
    """Take NAME=FILE apart; a file alone is called by its stem."""
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (Path(text).stem, Path(text))
