"""The best of several images of one prompt, and why; or of every prompt of a table.

    dyneval best a.png b.png --prompt "a red cat on a beach" --checkpoint demo
    dyneval best a.png b.png --prompt "a red cat" --server http://gpu-machine:8000 --json
    dyneval best --metadata candidates/metadata.jsonl --n 4 --output best.jsonl
    dyneval best --scores scores.jsonl --n 4 --output best.jsonl                  # of images that are scored already

Soft scores decide. Images of a table belong together when their prompts are the same; of each prompt the first --n with
a score are compared. Those of a table are kept in best.scores.jsonl beside best.jsonl, and the same command goes on.
Images that cannot be scored are named on stderr, the others are compared; the exit status is then 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

from dyneval.checkpoints.names import DEFAULT
from dyneval.cli.running import KEPT, NOT_KEPT, run
from dyneval.cli.score import leave_to_server, loader
from dyneval.cli.student import StudentOptions
from dyneval.cli.tables import ImageRoot, PairTable
from dyneval.errors import SettingError
from dyneval.flags import Parser, arg
from dyneval.records import ScoreName, ScoreRecord
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.choosing import Best, Candidate
    from dyneval.structs import Row


@dataclass(frozen=True, kw_only=True, slots=True)
class BestOptions:
    """What is compared, by whom, and what is written."""

    images: Annotated[
        tuple[Path, ...],
        arg("images of one prompt", heading="what is compared", position=True, flag="image", metavar="IMAGE"),
    ] = ()
    prompt: Annotated[str | None, arg("what they were made from")] = None
    metadata: PairTable = None
    image_root: ImageRoot = None
    scores: Annotated[Path | None, arg("scores.jsonl of images that are scored already")] = None
    n: Annotated[int | None, arg("images of each prompt at most; default: all", ge=1)] = None
    score: Annotated[ScoreName, arg("which soft score decides")] = "overall"
    output: Annotated[
        Path | None,
        arg("JSONL with a row a prompt: its best image, the reason, the order of all", heading="what is written"),
    ] = None
    json: Annotated[bool, arg("without --output: print JSON")] = False
    server: Annotated[str | None, arg("score by the `dyneval serve` at this address", metavar="URL")] = None
    student: Annotated[StudentOptions, arg(f"student; default: {DEFAULT}")] = field(default_factory=StudentOptions)

    def __post_init__(self) -> None:
        if sum(map(bool, (self.images, self.metadata, self.scores))) != 1:
            raise SettingError("name either images, or --metadata TABLE, or --scores FILE")
        if self.images and self.prompt is not None and not self.prompt.strip():
            raise SettingError("--prompt is empty; it is what the images were made from")
        if self.images and not self.prompt:
            raise SettingError("images need --prompt TEXT, what all of them were made from")
        if not self.images and not self.output:
            raise SettingError("--metadata and --scores need --output")
        if self.images and (self.output or self.n):
            raise SettingError("--output and --n go with --metadata or --scores")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(BestOptions, argv)
    if options.server:
        leave_to_server(parser)
    # Of images that are named on the command line nothing is kept, of a table the scores are.
    act = _of_images if options.images else _of_table
    return run(parser, act, options, interrupted=KEPT if options.output else NOT_KEPT)


def _of_images(options: BestOptions) -> int:
    from dyneval.choosing import Candidate, best_of, soft_score
    from dyneval.loaded_pairs import Failure, LoadedPair, pair_or_failure

    read = [pair_or_failure(image, options.prompt or "", number) for number, image in enumerate(options.images, 1)]
    pairs = [one for one in read if isinstance(one, LoadedPair)]
    failures = [one.reason for one in read if isinstance(one, Failure)]
    records: list[ScoreRecord] = []
    # The images are read before the student is loaded, which may take minutes: wrong paths are told at once.
    if pairs:
        for pair, result in zip(pairs, loader(options.server, options.student)().score_pairs(pairs), strict=True):
            if isinstance(result, ScoreRecord):
                records.append(result)
            else:
                failures.append(f"{pair.image_name}: {result.reason}")
    for reason in failures:
        sys.stderr.write(f"dyneval best: {reason}\n")
    if not records:
        return 1
    best = best_of(records, options.score)
    # Read by a program, it is JSON without being asked for.
    if options.json or not sys.stdout.isatty():
        of = [Candidate(one.pair_id, one.image, soft_score(one, options.score)) for one in records]
        sys.stdout.write(json.dumps(_row(best, of), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"{best.record.image}\n{best.reason}\n")
    return 1 if failures else 0


def _of_table(options: BestOptions) -> int:
    from dyneval.choosing import best_of, read_candidates
    from dyneval.errors import DataFileError
    from dyneval.files.atomic import atomic_write, refuse_overwrite
    from dyneval.files.jsonl import to_line
    from dyneval.files.pairs import metadata_file
    from dyneval.files.store import JsonlIndex

    output, score = options.output, options.score
    assert output is not None
    # Checked before anything is scored: a wrong --output would otherwise cost a table its rows.
    table = metadata_file(options.metadata) if options.metadata else None
    refuse_overwrite([path for path in (options.scores, table, options.student.questions) if path], [output])
    scores, order, failed = (options.scores, None, 0) if options.scores else _scored(options)
    groups = read_candidates(scores, score, order)
    if not groups:
        raise DataFileError(f"{scores}: holds no scores to choose from")
    index = JsonlIndex(scores, ScoreRecord)
    chosen, means, few, least = [], [], 0, options.n or 2
    with closing(index), atomic_write(output, "wb") as file:
        for candidates in groups.values():
            some = candidates[: options.n]
            best = best_of([record for one in some if (record := index.get(one.pair_id)) is not None], score)
            file.write(to_line(_row(best, some)))
            chosen.append(some[best.number].score)
            means.append(fmean(one.score for one in some))
            few += len(some) < least
    short = f"; {few} of them have fewer than {least} scored images" if few else ""
    sys.stderr.write(
        f"{len(chosen)} prompts: mean soft {score} score {fmean(chosen):.3f} of the best, {fmean(means):.3f} of all"
        f"{short} -> {output}\n"
    )
    return 1 if failed else 0


def _scored(options: BestOptions) -> tuple[Path, dict[str, int], int]:
    """Score the table; returns the file of scores, the place of each pair in the table, and how many pairs failed."""
    from dyneval.files.pairs import PairRef, read_pairs
    from dyneval.scorer.run import score_file

    interrupt_on_sigterm()
    output, table = options.output, options.metadata
    assert output is not None and table is not None
    scores = output.with_name(f"{output.stem}.scores.jsonl")
    questions = [options.student.questions] if options.student.questions else []
    failed = score_file(
        loader(options.server, options.student), table, scores, options.image_root, inputs=questions
    ).rejected
    # Ties and --n go by the place in the table, and the file of scores has the order in which batches ended.
    places = {one.pair_id: place for place, one in enumerate(read_pairs(table, PairRef, lambda _: None))}
    return scores, places, failed


def _row(best: Best, candidates: Sequence[Candidate]) -> Row:
    ranked = [candidates[number] for number in best.order]
    lead = best.lead
    interval = [lead.low, lead.high] if lead and lead.low is not None else None
    return {
        "prompt": best.record.prompt,
        "pair_id": best.record.pair_id,
        "image": best.record.image,
        "score": ranked[0].score,
        "reason": best.reason,
        **({"lead": lead.difference, "interval": interval} if lead else {}),
        "ranking": [one._asdict() for one in ranked],
    }
