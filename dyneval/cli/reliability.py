"""How reliable is the judge itself? Its scores of the same pairs in two runs, or of the same images altered.

Runs that are there: twice the same, transformers and a server, two batch sizes, two checkpoints:
    dyneval reliability scores.jsonl server=served/scores.jsonl batch8=batch8.jsonl --output reliability/
Images altered here as a person would hardly notice (JPEG 90, resized to 75 %, mirrored), scored by the same student:
    dyneval reliability --checkpoint output/dyneval_4b_stage2_iqa --metadata gendb/metadata.jsonl --output reliability/

One table: share of equal scores, mean absolute difference, SRCC, Krippendorff's alpha, and how often the better of two
images of a prompt changes, each with its interval; the pairs that differ most; every pair in samples.csv.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from dyneval.cli.running import run
from dyneval.cli.student import StudentOptions
from dyneval.cli.tables import ImageRoot
from dyneval.errors import SettingError
from dyneval.evaluation.options import EvaluationOptions, named_file
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.cli.score_first import StudentConfig

Alteration = Literal["jpeg90", "resize75", "mirror"]
ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityOptions:
    """The runs that are compared, or what they are made of."""

    scores: Annotated[
        tuple[tuple[str, Path], ...],
        arg(
            "scores.jsonl of each run; the others are compared with the first",
            position=True,
            metavar="[NAME=]FILE",
            parse=named_file,
        ),
    ] = ()
    output: Annotated[Path | None, arg("folder for tables, JSON, samples.csv, report.html and pictures")] = None
    metadata: Annotated[Path | None, arg("with --checkpoint: table of the pairs, as for dyneval score")] = None
    image_root: ImageRoot = None
    limit: Annotated[int | None, arg("only so many pairs, from the table's beginning", ge=1)] = None
    alter: Annotated[tuple[Alteration, ...], arg("what is done to the images", nargs="+")] = get_args(Alteration)
    evaluation: Annotated[EvaluationOptions, arg("")] = field(default_factory=EvaluationOptions)
    student: Annotated[
        StudentOptions, arg("student: with --checkpoint, it scores the images of --metadata as they are and altered")
    ] = field(default_factory=StudentOptions)

    def __post_init__(self) -> None:
        if bool(self.scores) == bool(self.student.checkpoint):
            raise SettingError("name two score files or more, or --checkpoint with --metadata")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(ReliabilityOptions, argv)
    return run(parser, _compare, options)


def _compare(options: ReliabilityOptions) -> int:
    from dyneval.evaluation.run_reliability import ReliabilityRun, run_reliability

    runs, failed = list(options.scores), 0
    if evaluator := options.student.named():
        runs, failed = _scored(options, evaluator)
    outcome = run_reliability(ReliabilityRun(runs=runs, output=options.output, **asdict(options.evaluation)))
    for heading, table in outcome.tables.items():
        print(f"\n{heading}\n{table.render()}")
        for note in table.notes:
            print(note, file=sys.stderr)
    if outcome.files:
        print(f"\n{len(outcome.files)} files in {options.output}, last {outcome.files[-1].name}")
    if failed:
        print(f"{failed} images could not be scored, see the rejects files", file=sys.stderr)
    return 1 if failed else 0


def _scored(options: ReliabilityOptions, evaluator: StudentConfig) -> tuple[list[tuple[str, Path]], int]:
    """Score the images as they are and altered; the runs, and how many images could not be scored."""
    from dyneval.cli.score_first import StudentConfig, score_first
    from dyneval.evaluation.alterations import altered
    from dyneval.evaluation.unscored import UnscoredImage
    from dyneval.files.pairs import PairRef, metadata_file, read_pairs
    from dyneval.files.store import write_rejects
    from dyneval.records import Reject, ScoreRecord

    if options.metadata is None or options.output is None:
        raise SettingError("--checkpoint needs --metadata and --output")
    bad: list[Reject] = []
    refs = read_pairs(options.metadata, PairRef, bad.append, limit=options.limit)
    pairs = [UnscoredImage(ref.pair_id, ref.prompt, ref.file_name) for ref in refs]
    write_rejects(options.output / "pairs.rejects.jsonl", bad, ScoreRecord.KEY)
    images = options.image_root or metadata_file(options.metadata).parent
    # Loaded once for all runs.
    judge = StudentConfig(evaluator.name, cache(evaluator.load))
    # The first run is what all others are compared with.
    runs = [(ORIGINAL, options.output / f"{ORIGINAL}.jsonl")]
    failed = len(bad) + score_first(judge, pairs, images, runs[0][1], alone=True)
    for name in options.alter:
        folder = options.output / "altered" / name
        folder.mkdir(parents=True, exist_ok=True)
        runs.append((name, options.output / f"{name}.jsonl"))
        # Written as files, so that a person can look at what was scored, and a resumed run need not alter them again.
        changed = altered(pairs, images, folder, name, options.evaluation.workers)
        failed += score_first(judge, changed, folder, runs[-1][1], alone=True)
    return runs, failed
