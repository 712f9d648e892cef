"""Step 5: score images against the prompts they were made from, with a DynEval student.

    dyneval score cat.png --prompt "a cat on a bench" --checkpoint demo
    dyneval score pictures/ --captions txt --output scores.jsonl --csv scores.csv     # a.txt beside a.png
    dyneval score pictures.zip --captions filename                                    # a_cat_on_a_bench.png
    dyneval score pictures/ --captions table.csv --column image=path prompt=text --output scores.jsonl
    dyneval score --metadata gendb/metadata.jsonl --output scores.jsonl --shard 1/4   # on several machines
    dyneval score cat.png --prompt "a cat" --server http://gpu-machine:8000           # `dyneval serve` there

Scores are 1-5, higher is better. Without --output they are printed: as lines for people on a terminal, else (or with
--json) as JSON. The same command with the same --output goes on where it was: a pair is scored again only if its image,
prompt or student, or a setting that its scores depend on, has changed. Pairs that cannot be scored are named on stderr,
with --output also in <output>.rejects.jsonl; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dyneval.cli.running import KEPT, NOT_KEPT, run
from dyneval.cli.student import add_scoring, add_student, loader, parse, student_flags
from dyneval.errors import SettingError
from dyneval.files.captioned import ARCHIVES, CAPTIONS, Gathered, gather
from dyneval.files.row import ColumnError
from dyneval.files.tables import KINDS
from dyneval.flags import Parser, positive
from dyneval.work.executors import add_cluster, cluster_of
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.cli.scores_told import Means
    from dyneval.scorer import Pair, Scorer

MEANINGS = {"image": "file_name", "prompt": "prompt", "id": "pair_id", "model": "generation_model"}
"""What --column calls the columns of a table, and their names in ours."""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parse(parser, argv)
    arguments.images += arguments.image
    _settle_table(arguments)
    _refuse(parser, arguments)
    return run(parser, lambda: _score(arguments), interrupted=KEPT if arguments.output else NOT_KEPT)


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument_group("what is scored").add_argument
    add("images", nargs="*", type=Path, metavar="IMAGE", help="images, folders of them, .zip or .tar, or one table")
    add("--image", action="append", type=Path, default=[], metavar="IMAGE", help="the same as IMAGE")
    add("--prompt", help="the prompt that all the images were made from")
    text = "where the prompt of each image is: txt (a.txt or a.json beside a.png), filename, or a table"
    add("--captions", metavar="{txt,filename,FILE}", help=text)
    add("--metadata", type=Path, help="table (JSONL, CSV, Parquet) with file_name and prompt, or an ImageFolder")
    add("--image-root", type=Path, help="folder that file_name is relative to; default: the folder of --metadata")
    text = f"what the table calls its columns: {', '.join(MEANINGS)}, such as image=path prompt=caption"
    add("--column", nargs="+", default=[], metavar="MEANING=NAME", help=text)
    add("--limit", type=positive, help="score only so many rows of --metadata, from its beginning")
    add("--shard", metavar="I/N", help="only part I of N (from 1) of --metadata, split by prompt; see dyneval merge")
    add = parser.add_argument_group("what is written").add_argument
    add("--output", type=Path, help="JSONL file of records; pairs whose record in it still holds are skipped")
    add("--csv", type=Path, metavar="FILE", help="also a table of the scores")
    add("--parquet", type=Path, metavar="FILE", help="the same as Parquet")
    add("--json", action="store_true", help="without --output: print the records as JSON, on a terminal too")
    text = "score by the `dyneval serve` at this address; a token stands in DYNEVAL_TOKEN"
    parser.add_argument("--server", metavar="URL", help=text)
    add_student(parser)
    add_scoring(parser)
    add_cluster(parser, "pairs", gpus=1, batch=32)
    return parser


def _settle_table(arguments: argparse.Namespace) -> None:
    """A table may be named as an image is: by its name, by its ImageFolder, or as --captions of a folder."""
    images: list[Path] = arguments.images
    if len(images) != 1 or arguments.metadata or arguments.prompt:
        return
    captions = arguments.captions
    if captions not in (None, *CAPTIONS):
        arguments.metadata, arguments.image_root = Path(captions), arguments.image_root or images[0]
    elif captions is None and (images[0].suffix.lower() in KINDS or list(images[0].glob("metadata.*"))):
        arguments.metadata = images[0]
    if arguments.metadata:
        arguments.images = []


def _refuse(parser: Parser, arguments: argparse.Namespace) -> None:
    images, table = arguments.images, arguments.metadata
    if bool(images) == bool(table):
        parser.error("name either images, or a folder of them, or --metadata TABLE")
    if images and arguments.captions not in (None, *CAPTIONS):
        parser.error("--captions FILE goes with one folder of images")
    if images and bool((arguments.prompt or "").strip()) == bool(arguments.captions):
        parser.error("images need --prompt TEXT, what all of them were made from, or --captions txt|filename|FILE")
    if images and (arguments.shard or arguments.limit or arguments.column or arguments.ray is not None):
        parser.error("--shard, --limit, --column and --ray go with --metadata")
    if table and not arguments.output:
        parser.error("--metadata needs --output")
    if arguments.server and arguments.ray is not None:
        parser.error("--server and --ray exclude each other")
    if arguments.server:
        _leave_to_server(parser)


def _leave_to_server(parser: Parser) -> None:
    """Refuse flags about who scores and how; their defaults are not what the server has, so no summary holds them."""
    flags = {name: name.replace("_", "-") for name in student_flags()}
    if settled := [f"--{flag}" for name, flag in flags.items() if name in parser.given]:
        parser.error(f"{', '.join(settled)}: settled by the server, does not go with --server")
    for flag in flags.values():
        parser.resolved.pop(flag)


def _score(arguments: argparse.Namespace) -> int:
    from dyneval.cli.scores_told import Means

    interrupt_on_sigterm()
    load, means = _loader(arguments), Means()
    with _gathered(arguments) as gathered:
        if gathered and not arguments.output:
            failed = _print_scores(arguments, load, gathered, means)
        else:
            failed = _into_file(arguments, load, gathered, means)
    if arguments.output or means.count + failed > 1:
        sys.stderr.write(f"{means.line(failed)}\n")
    if means.count:
        sys.stderr.write(f"next: {_next(arguments)}\n")
    return 1 if failed else 0


def _loader(arguments: argparse.Namespace) -> Callable[[], Scorer]:
    if not arguments.server:
        return loader(arguments)
    from dyneval.cli.served import ServedScorer

    return lambda: ServedScorer(arguments.server)  # type: ignore[return-value]  # it has all that is asked of one


@contextmanager
def _gathered(arguments: argparse.Namespace) -> Iterator[Gathered | None]:
    """The pairs of images; None of a table, which is read when it is scored."""
    if arguments.metadata:
        yield None
        return
    is_packed = any(path.suffix.lower() in ARCHIVES for path in arguments.images)
    # Archives may be larger than the disk of temporary files.
    place = arguments.output.absolute().parent if is_packed and arguments.output else None
    if place:
        place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".dyneval-", dir=place) as folder:
        captions = arguments.captions
        yield gather(arguments.images, captions or arguments.prompt, captions is not None, Path(folder))


def _into_file(
    arguments: argparse.Namespace, load: Callable[[], Scorer], gathered: Gathered | None, means: Means
) -> int:
    """Score into --output and write the tables beside it; returns how many pairs failed."""
    from dyneval.cli.scores_told import write_table
    from dyneval.files.jsonl import read_records
    from dyneval.files.parts import Shard
    from dyneval.records import ScoreRecord
    from dyneval.scorer.run import score_file, score_refs

    output: Path = arguments.output
    questions = [arguments.questions] if arguments.questions else []
    if gathered is not None:
        failed = score_refs(load, gathered, output, questions).rejected
    else:
        shard = Shard.parse(arguments.shard) if arguments.shard else None
        root, cluster, columns = arguments.image_root, cluster_of(arguments), _columns(arguments.column)
        try:
            failed = score_file(
                load, arguments.metadata, output, root, arguments.limit, shard, cluster, questions, columns
            ).rejected
        except ColumnError as error:
            raise SettingError(f"{error}; say which is which: --column image=NAME prompt=NAME") from None
        output = shard.folder(output.parent) / output.name if shard else output
    for _ in means.over(read_records(output, ScoreRecord)):
        pass
    for table in filter(None, (arguments.csv, arguments.parquet)):
        write_table(table, read_records(output, ScoreRecord))
    return failed


def _columns(words: Sequence[str]) -> dict[str, str]:
    columns = {}
    for word in words:
        meaning, _, name = word.partition("=")
        if meaning not in MEANINGS or not name:
            raise SettingError(f"--column {word}: expected MEANING=NAME, with the meanings {', '.join(MEANINGS)}")
        columns[MEANINGS[meaning]] = name
    return columns


def _print_scores(arguments: argparse.Namespace, load: Callable[[], Scorer], gathered: Gathered, means: Means) -> int:
    """Print what each image got, and write the tables; returns how many pairs failed."""
    from dyneval.cli.scores_told import one_line, write_table
    from dyneval.records import ScoreRecord
    from dyneval.scorer.run import tell_unused_questions

    failures = [f"{row.key}: {row.reason}" for row in gathered.rejects]
    pairs = _readable(gathered, failures)
    first = next(pairs, None)  # a wrong path is told before a large student is loaded
    records: list[ScoreRecord] = []
    if first is not None:
        is_json = arguments.json or not sys.stdout.isatty()
        indent = 2 if len(gathered.refs) == 1 else None
        scorer = load()
        tell_unused_questions(scorer, [one.prompt for one in gathered.refs])
        for result in scorer.score_pairs(chain([first], pairs)):
            if not isinstance(result, ScoreRecord):
                failures.append(f"{result.pair_id}: {result.reason}")
                continue
            records += means.over([result])
            said = json.dumps(result.to_dict(), ensure_ascii=False, indent=indent) if is_json else one_line(result)
            sys.stdout.write(f"{said}\n")
    for table in filter(None, (arguments.csv, arguments.parquet)):
        write_table(table, records)
    if failures:
        sys.stderr.write("dyneval score: " + "\n".join(failures) + "\n")
    return len(failures)


def _readable(gathered: Gathered, failures: list[str]) -> Iterator[Pair]:
    from dataclasses import replace

    from dyneval.errors import ImageError
    from dyneval.files.images import image_path
    from dyneval.loaded_pairs import PromptError, make_pair

    for one in gathered.refs:
        try:
            pair = make_pair(image_path(gathered.root, one.file_name), one.prompt)
            yield replace(pair, pair_id=one.pair_id, image_name=one.file_name)
        except (ImageError, PromptError) as error:
            failures.append(str(error))


def _next(arguments: argparse.Namespace) -> str:
    """The command that follows."""
    if not arguments.output:
        return "the same command with --output scores.jsonl keeps the scores; dyneval serve has a page to look at"
    output = shlex.quote(str(arguments.output))
    metadata = f" --metadata {shlex.quote(str(arguments.metadata))}" if arguments.metadata else ""
    if arguments.shard:
        return f"when all parts are done, dyneval merge {output}{metadata}"
    return f"dyneval leaderboard {output}{metadata if not arguments.column else ''} --output board/"
