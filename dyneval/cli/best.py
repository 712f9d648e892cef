"""The best of several images of one prompt, and why; or of every prompt of a table.

    dyneval best a.png b.png --prompt "a red cat on a beach" --checkpoint demo
    dyneval best a.png b.png --prompt "a red cat" --server http://gpu-machine:8000 --json
    dyneval best --metadata candidates/metadata.jsonl --n 4 --output best.jsonl
    dyneval best --scores scores.jsonl --n 4 --output best.jsonl                  # of images that are scored already

Soft scores decide. Images of a table belong together when their prompts are the same; of each prompt the first --n with
a score are compared. The scores of a table are kept in <output>.scores.jsonl, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from dyneval.cli.running import KEPT, NOT_KEPT, run
from dyneval.cli.score import _leave_to_server, _loader
from dyneval.cli.student import add_scoring, add_student, parse
from dyneval.flags import Parser, positive
from dyneval.records import SCORE_NAMES
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.choosing import Best, Candidate
    from dyneval.structs import Row


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    add = parser.add_argument_group("what is compared").add_argument
    add("images", nargs="*", type=Path, metavar="IMAGE", help="images of one prompt")
    add("--prompt", help="what they were made from")
    add("--metadata", type=Path, help="table (JSONL, CSV, Parquet) with file_name and prompt, or an ImageFolder")
    add("--image-root", type=Path, help="folder that file_name is relative to; default: the folder of --metadata")
    add("--scores", type=Path, help="scores.jsonl of images that are scored already")
    add("--n", type=positive, metavar="N", help="images of each prompt at most; default: all")
    add("--score", choices=SCORE_NAMES, default="overall", help="which soft score decides; default: %(default)s")
    add = parser.add_argument_group("what is written").add_argument
    add("--output", type=Path, help="JSONL with a row a prompt: its best image, the reason, the order of all")
    add("--json", action="store_true", help="without --output: print JSON")
    parser.add_argument("--server", metavar="URL", help="score by the `dyneval serve` at this address")
    add_student(parser)
    add_scoring(parser)
    arguments = parse(parser, argv)
    _refuse(parser, arguments)
    act = _of_images if arguments.images else _of_table
    return run(parser, lambda: act(arguments), interrupted=KEPT if arguments.output else NOT_KEPT)


def _refuse(parser: Parser, arguments: argparse.Namespace) -> None:
    if sum(map(bool, (arguments.images, arguments.metadata, arguments.scores))) != 1:
        parser.error("name either images, or --metadata TABLE, or --scores FILE")
    if arguments.images and not (arguments.prompt or "").strip():
        parser.error("images need --prompt TEXT, what all of them were made from")
    if not arguments.images and not arguments.output:
        parser.error("--metadata and --scores need --output")
    if arguments.images and (arguments.output or arguments.n):
        parser.error("--output and --n go with --metadata or --scores")
    if arguments.server:
        _leave_to_server(parser)


def _of_images(arguments: argparse.Namespace) -> int:
    from dyneval.choosing import Candidate, best_of, soft_score
    from dyneval.loaded_pairs import score_all

    images = arguments.images
    records = score_all(_loader(arguments)().score_pairs, images, [arguments.prompt] * len(images))
    best = best_of(records, arguments.score)
    if arguments.json or not sys.stdout.isatty():
        of = [Candidate(one.pair_id, one.image, soft_score(one, arguments.score)) for one in records]
        sys.stdout.write(json.dumps(_row(best, of), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(f"{best.record.image}\n{best.reason}\n")
    return 0


def _of_table(arguments: argparse.Namespace) -> int:
    from dyneval.choosing import best_of, read_candidates
    from dyneval.errors import DataFileError
    from dyneval.files.atomic import atomic_write, refuse_overwrite
    from dyneval.files.jsonl import to_line
    from dyneval.files.store import JsonlIndex
    from dyneval.records import ScoreRecord

    output, score = arguments.output, arguments.score
    scores, order, failed = (arguments.scores, None, 0) if arguments.scores else _scored(arguments)
    refuse_overwrite([scores], [output])
    index = JsonlIndex(scores, ScoreRecord)
    chosen, means, few, least = [], [], 0, arguments.n or 2
    with closing(index), atomic_write(output, "wb") as file:
        for candidates in read_candidates(scores, score, order).values():
            some = candidates[: arguments.n]
            best = best_of([record for one in some if (record := index.get(one.pair_id)) is not None], score)
            file.write(to_line(_row(best, some)) + b"\n")
            chosen.append(some[best.number].score)
            means.append(fmean(one.score for one in some))
            few += len(some) < least
    if not chosen:
        raise DataFileError(f"{scores}: holds no scores to choose from")
    short = f"; {few} of them have fewer than {least} scored images" if few else ""
    sys.stderr.write(
        f"{len(chosen)} prompts: mean soft {score} score {fmean(chosen):.3f} of the best, {fmean(means):.3f} of all"
        f"{short} -> {output}\n"
    )
    return 1 if failed else 0


def _scored(arguments: argparse.Namespace) -> tuple[Path, dict[str, int], int]:
    """Score the table; returns the file of scores, the place of each pair in the table, and how many pairs failed."""
    from dyneval.files.pairs import PairRef, read_pairs
    from dyneval.scorer.run import score_file

    interrupt_on_sigterm()
    output, table = arguments.output, arguments.metadata
    scores = output.with_name(f"{output.stem}.scores.jsonl")
    questions = [arguments.questions] if arguments.questions else []
    failed = score_file(_loader(arguments), table, scores, arguments.image_root, inputs=questions).rejected
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
