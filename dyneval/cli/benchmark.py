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

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dyneval.cli.running import run
from dyneval.cli.student import StudentOptions
from dyneval.cli.tables import column_of
from dyneval.errors import SettingError
from dyneval.evaluation.benchmarks import BENCHMARKS, Benchmark, generic
from dyneval.evaluation.options import EvaluationOptions, named_file
from dyneval.files.hub import HubOptions
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.evaluation.run_benchmark import BenchmarkOutcome

# Files that are uploaded. Not the report, which shows the benchmark's images, and not the
# files that name the folders of this machine.
PUBLISHED = (".csv", ".md", ".tex")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkOptions:
    """Which scores are compared with which ratings."""

    list: Annotated[bool, arg("name the benchmarks: what was rated, items, licence, source, what to pass")] = False
    benchmark: Annotated[str | None, arg("whose annotations these are", choices=(*BENCHMARKS, "generic"))] = None
    annotations: Annotated[Path | None, arg("file or folder with the human ratings")] = None
    rating: Annotated[
        str | None,
        arg("which rating of several, or all: also every one beside T2IA, IQA and overall; default: its first"),
    ] = None
    folds: Annotated[
        tuple[Path, ...],
        arg("tables with fold and an id or image, or a file a fold: agreement by fold too", nargs="+", metavar="FILE"),
    ] = ()
    column: Annotated[
        dict[str, str],
        arg(
            f"columns of a generic table: {', '.join(generic.COLUMNS)}",
            nargs="+",
            metavar="MEANING=NAME",
            parse=column_of(generic.COLUMNS),
        ),
    ] = field(default_factory=dict)
    scale: Annotated[
        tuple[float, float] | None, arg("scale of a generic table's ratings", nargs=2, metavar=("LOW", "HIGH"))
    ] = None
    images: Annotated[
        Path | None, arg("folder of the images, for --checkpoint and for the report's gallery", folder=True)
    ] = None
    scores: Annotated[
        tuple[tuple[str, Path], ...],
        arg("scores.jsonl of DynEval, or a table of scores", nargs="+", metavar="[NAME=]FILE", parse=named_file),
    ] = ()
    compare: Annotated[
        tuple[tuple[str, Path], ...],
        arg("further evaluators, in the same forms", nargs="+", metavar="[NAME=]FILE", parse=named_file),
    ] = ()
    score: Annotated[
        str,
        arg("overall, t2ia, iqa, soft.overall, soft.t2ia, soft.iqa of DynEval's scores, or the column of a table"),
    ] = "overall"
    level: Annotated[float, arg("of the interval for a new image's rating")] = 0.9
    output: Annotated[Path | None, arg("folder for tables (CSV, Markdown, LaTeX, HTML), report.html and pictures")] = (
        None
    )
    hub: Annotated[HubOptions, arg("")] = field(default_factory=HubOptions)
    evaluation: Annotated[EvaluationOptions, arg("")] = field(default_factory=EvaluationOptions)
    student: Annotated[StudentOptions, arg("student: with --checkpoint, it scores the images first")] = field(
        default_factory=StudentOptions
    )

    def __post_init__(self) -> None:
        if not (self.list or (self.benchmark and self.annotations)):
            raise SettingError("name --benchmark and --annotations, or --list")
        if not (self.list or self.scores or self.compare or self.student.checkpoint):
            raise SettingError("name --scores or --checkpoint")
        if self.hub.push_to_hub and not self.output:
            raise SettingError("--push-to-hub needs --output: the tables that are uploaded")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(BenchmarkOptions, argv)
    return run(parser, _compare, options)


def _list_benchmarks() -> int:
    """Print every benchmark: what was rated, how many images, licence, where its files are, and what to pass."""
    for benchmark in (*BENCHMARKS.values(), generic.benchmark()):
        print(f"{benchmark.name}: {benchmark.title}\n  items: {benchmark.size or 'as many as the table has'}")
        print(f"  licence: {benchmark.licence}\n  from: {benchmark.source}")
        print(f"  --benchmark {benchmark.name} --annotations: {benchmark.layout}")
        for name, rating in benchmark.fields.items():
            scale = "; a preference" if rating.is_preference else ""
            scale += "" if rating.low is None else f", {rating.low:g}-{rating.high:g}"
            print(f"  --rating {name}: {rating.meaning}{scale}")
    return 0


def _compare(options: BenchmarkOptions) -> int:
    if options.list:
        return _list_benchmarks()
    from dyneval.evaluation.run_benchmark import BenchmarkRun, run_benchmark

    assert options.annotations is not None and options.benchmark is not None
    known = options.benchmark in BENCHMARKS
    benchmark = BENCHMARKS[options.benchmark] if known else generic.benchmark(options.column, options.scale)
    # Opened before the work: a wrong token must not be told after hours of scoring.
    repository = options.hub.open("model")
    scores, failed = _score(options, benchmark, options.annotations)
    outcome = run_benchmark(
        BenchmarkRun(
            benchmark=benchmark,
            annotations=options.annotations,
            output=options.output,
            images=options.images,
            scores=[*scores.items(), *options.scores, *options.compare],
            rated=options.rating,
            folds=options.folds,
            field=options.score,
            level=options.level,
            **asdict(options.evaluation),
        )
    )
    for heading, table in outcome.tables.items():
        print(f"\n{heading}\n{table.render()}")
        for note in table.notes:
            print(note, file=sys.stderr)
    if outcome.files:
        print(f"\n{len(outcome.files)} files in {options.output}, last {outcome.files[-1].name}")
    if repository and options.output:
        values = {kind: (name, round(value, 4)) for kind, name, value in _figures(outcome) if value is not None}
        repository.add_results(benchmark.name, benchmark.title, values)
        files = [escape(file.name) for file in outcome.files if file.suffix in PUBLISHED]
        title, place = f"DynEval: {benchmark.title}", f"results/{benchmark.name}"
        print(repository.upload(options.output, title, files, place=place))
    return 1 if failed else 0


def _figures(outcome: BenchmarkOutcome) -> list[tuple[str, str, float | None]]:
    """Kind, name and value of what the first evaluator reached."""
    from dyneval.evaluation.comparison import EvaluatorComparison

    # Preferences have no correlation: there is a better image, and no number.
    found = outcome.comparison
    if isinstance(found, EvaluatorComparison):
        reached = found.evaluators[0].agreement
        return [
            ("spearmanr", "SRCC with people", reached.srcc.value),
            ("pearsonr", "PLCC with people", reached.plcc.value),
            ("kendalltau", "KRCC with people", reached.krcc.value),
            ("accuracy", "pairwise accuracy", reached.pairwise_accuracy.value),
        ]
    return [("accuracy", "pairwise accuracy", found.evaluators[0].accuracy.value)]


def _score(options: BenchmarkOptions, benchmark: Benchmark, annotations: Path) -> tuple[dict[str, Path], int]:
    """Score the rated images with --checkpoint, if there is one; the file by name, and how many could not be scored."""
    evaluator = options.student.named()
    if evaluator is None:
        return {}, 0
    from dyneval.cli.score_first import score_first
    from dyneval.evaluation.scales import ALL
    from dyneval.evaluation.unscored import rated_images

    if options.images is None or options.output is None:
        raise SettingError("--checkpoint needs --images and --output")
    path = options.output / "scores.jsonl"
    pairs = rated_images(benchmark, annotations, None if options.rating == ALL else options.rating)
    return {evaluator.name: path}, score_first(evaluator, pairs, options.images, path)
