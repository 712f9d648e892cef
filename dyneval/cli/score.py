"""Step 5: score images against the prompts they were made from, with a trained DynEval student.

Images of one prompt, the results as JSON on stdout, or with --output in a file:
    dyneval score cat.png --prompt "a cat" --checkpoint output/dyneval_4b_stage2_iqa
Many pairs:
    dyneval score --metadata gendb/metadata.jsonl --output scores.jsonl
On several machines, each with its own part:
    dyneval score --metadata gendb/metadata.jsonl --output scores.jsonl --shard 1/4

Scores are 1-5, higher is better. The same command with the same --output goes on where it was: a pair is scored again
only if its image, prompt or student, or a setting that its scores depend on, has changed. Pairs that cannot be scored
are named on stderr, with --output also in <output>.rejects.jsonl; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.cli.running import KEPT, NOT_KEPT, run
from dyneval.cli.student import add_scoring, add_student, loader, parse
from dyneval.errors import UserError
from dyneval.flags import Parser
from dyneval.work.executors import add_cluster, cluster_of
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.scorer import Pair, Scorer


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    arguments.images += arguments.image
    if bool(arguments.images) == bool(arguments.metadata):
        parser.error("name either images or --metadata")
    if arguments.images and not (arguments.prompt or "").strip():
        parser.error("images need --prompt, the prompt that they were made from")
    if arguments.images and (arguments.shard or arguments.limit or arguments.ray is not None):
        parser.error("--shard, --limit and --ray go with --metadata")
    if arguments.metadata and not arguments.output:
        parser.error("--metadata needs --output")
    return run(parser, lambda: _score(arguments), interrupted=KEPT if arguments.output else NOT_KEPT)


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("images", nargs="*", type=Path, metavar="IMAGE", help="image files, all made from --prompt")
    add("--image", action="append", type=Path, default=[], metavar="IMAGE", help="the same as IMAGE")
    add("--prompt", help="the prompt that the images were made from")
    add("--metadata", type=Path, help="JSONL, CSV or Parquet with file_name and prompt, or an ImageFolder")
    add("--image-root", type=Path, help="folder that file_name is relative to; default: the folder of --metadata")
    add("--output", type=Path, help="JSONL file of records; pairs whose record in it still holds are skipped")
    add("--limit", type=int, help="score only so many rows of --metadata, from its beginning")
    add("--shard", metavar="I/N", help="only part I of N (from 1) of --metadata, split by prompt; see dyneval merge")
    add_student(parser)
    add_scoring(parser)
    add_cluster(parser, "pairs", gpus=1, batch=32)
    return parser


def _score(arguments: argparse.Namespace) -> int:
    interrupt_on_sigterm()
    load = loader(arguments)
    if not arguments.output:
        return _print_scores(arguments.images, arguments.prompt, load)
    from dyneval.files.parts import Shard
    from dyneval.scorer.run import score_file, score_images

    questions = [arguments.questions] if arguments.questions else []
    if arguments.metadata:
        shard = Shard.parse(arguments.shard) if arguments.shard else None
        root, cluster = arguments.image_root, cluster_of(arguments)
        summary = score_file(
            load, arguments.metadata, arguments.output, root, arguments.limit, shard, cluster, questions
        )
    else:
        summary = score_images(load, arguments.images, arguments.prompt, arguments.output, questions)
    return 1 if summary.rejected else 0


def _print_scores(images: Sequence[Path], prompt: str, load: Callable[[], Scorer]) -> int:
    """Print a record for each image: as one JSON object, or as lines where there are several images."""
    from dyneval.records import ScoreRecord
    from dyneval.scorer.run import tell_unused_questions

    failures: list[str] = []
    pairs = _readable(images, prompt, failures)
    first = next(pairs, None)  # a wrong path is told before a large student is loaded
    indent = 2 if len(images) == 1 else None
    if first is None:
        raise UserError("\n".join(failures))
    scorer = load()
    tell_unused_questions(scorer, [prompt])
    for result in scorer.score_pairs(chain([first], pairs)):
        if isinstance(result, ScoreRecord):
            sys.stdout.write(json.dumps(result.to_dict(), ensure_ascii=False, indent=indent) + "\n")
        else:
            failures.append(f"{result.pair_id}: {result.reason}")
    if failures:
        raise UserError("\n".join(failures))
    return 0


def _readable(images: Sequence[Path], prompt: str, failures: list[str]) -> Iterator[Pair]:
    from dyneval.errors import ImageError
    from dyneval.loaded_pairs import make_pair

    for image in images:
        try:
            yield make_pair(image, prompt)
        except ImageError as error:
            failures.append(str(error))
