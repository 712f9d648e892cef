"""Step 5: score images against the prompts they were made from, with a DynEval student.

    dyneval score cat.png --prompt "a cat on a bench" --checkpoint demo
    dyneval score pictures/ --captions txt --output scores.jsonl --csv scores.csv     # a.txt beside a.png
    dyneval score pictures.zip --captions filename                                    # a_cat_on_a_bench.png
    dyneval score pictures/ --captions captions.json                                  # {"a.png": "a cat on a bench"}
    dyneval score pictures/ --captions table.csv --column image=path prompt=text --output scores.jsonl
    dyneval score --metadata gendb/metadata.jsonl --output scores.jsonl --shard 1/4   # on several machines
    dyneval score cat.png --prompt "a cat" --server http://gpu-machine:8000           # `dyneval serve` there

Scores are 1-5, higher is better. Without --output they are printed: as lines for people on a terminal, else (or with
--json) as JSON. The same command with the same --output goes on where it was: a pair is scored again only if its image,
prompt or student, or a setting that its scores depend on, has changed. Pairs that cannot be scored are named on stderr,
with --output scores.jsonl also in scores.rejects.jsonl; the exit status is then 1.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from dyneval.checkpoints.names import DEFAULT
from dyneval.cli.running import KEPT, NOT_KEPT, local, run
from dyneval.cli.student import StudentOptions, student_flags
from dyneval.cli.tables import ImageRoot, PairTable, column_of
from dyneval.errors import SettingError, UserError
from dyneval.files.captioned import ARCHIVES, CAPTIONS, GatheredPairs, How, caption_map, gather
from dyneval.files.hub import is_address
from dyneval.files.parts import Shard
from dyneval.files.row import ColumnError
from dyneval.files.tables import KINDS
from dyneval.flags import Parser, arg
from dyneval.work.executors import ClusterOptions
from dyneval.work.processes import interrupt_on_sigterm

if TYPE_CHECKING:
    from dyneval.cli.score_output import Means
    from dyneval.scorer import LoadedPair, Scorer

# What --column calls the columns of a table, and their names in our tables.
MEANINGS = {"image": "file_name", "prompt": "prompt", "id": "pair_id", "model": "generation_model"}


def _column(text: str) -> tuple[str, str]:
    meaning, name = column_of(MEANINGS)(text)
    return MEANINGS[meaning], name


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """What is scored, by whom, and what is written."""

    images: Annotated[
        tuple[Path, ...],
        arg(
            "images, folders of them, .zip or .tar, or one table",
            heading="what is scored",
            position=True,
            flag="image",
            metavar="IMAGE",
        ),
    ] = ()
    prompt: Annotated[str | None, arg("the prompt that all the images were made from")] = None
    captions: Annotated[
        str | None,
        arg(
            "where the prompt of each image is: txt (a.txt or a.json beside a.png), filename, a table, or a JSON file "
            'like {"a.png": "a cat"}',
            metavar="{txt,filename,FILE}",
        ),
    ] = None
    metadata: PairTable = None
    image_root: ImageRoot = None
    column: Annotated[
        dict[str, str],
        arg(
            f"what the table calls its columns: {', '.join(MEANINGS)}, such as image=path prompt=caption",
            nargs="+",
            metavar="MEANING=NAME",
            parse=_column,
        ),
    ] = field(default_factory=dict)
    limit: Annotated[int | None, arg("score only so many rows of --metadata, from its beginning", ge=1)] = None
    shard: Annotated[
        Shard | None,
        arg(
            "only part I of N (from 1) of --metadata, split by prompt; see dyneval merge",
            metavar="I/N",
            parse=Shard.parse,
        ),
    ] = None
    output: Annotated[
        Path | None,
        arg(
            "JSONL file of records; pairs whose record in it still holds are skipped",
            heading="what is written",
        ),
    ] = None
    csv: Annotated[Path | None, arg("also a table of the scores", metavar="FILE")] = None
    parquet: Annotated[Path | None, arg("the same as Parquet", metavar="FILE")] = None
    json: Annotated[bool, arg("without --output: print the records as JSON, on a terminal too")] = False
    server: Annotated[
        str | None,
        arg("score by the `dyneval serve` at this address; a token stands in DYNEVAL_TOKEN", metavar="URL"),
    ] = None
    student: Annotated[StudentOptions, arg(f"student; default: {DEFAULT}")] = field(default_factory=StudentOptions)
    cluster: Annotated[ClusterOptions, arg("")] = field(default_factory=lambda: ClusterOptions(gpus=1, batch=32))

    @property
    def how(self) -> How | None:
        """Where the prompt of each image is; None where a table tells, or one prompt is that of all."""
        if self.captions is None or self.captions in CAPTIONS:
            return self.captions
        return caption_map(Path(self.captions))

    @property
    def tables(self) -> list[Path]:
        """What is written beside the records."""
        return [path for path in (self.csv, self.parquet) if path]


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(ScoreOptions, argv)
    try:
        if is_address(options.captions):
            # Only a table of captions needs --output, and whether a JSON file is one stands in it.
            options = replace(options, captions=str(local(Path(str(options.captions)))))
        _refuse(parser, _settled(options))
    except (UserError, OSError) as error:  # of the file of captions
        parser.error(str(error))
    return run(parser, partial(_score, prog=parser.prog), options, interrupted=KEPT if options.output else NOT_KEPT)


def _settled(options: ScoreOptions) -> ScoreOptions:
    """A table may be named as an image is: by its name, by its ImageFolder, or as --captions of a folder."""
    # Several images, or a prompt for all, leave no doubt; one path may be an image, a folder, a table or an address.
    images, captions = options.images, options.captions
    if len(images) != 1 or options.metadata or options.prompt:
        return options
    if captions is not None and options.how is None:
        return replace(options, images=(), metadata=Path(captions), image_root=options.image_root or images[0])
    is_table = images[0].suffix.lower() in KINDS or is_address(images[0]) or list(images[0].glob("metadata.*"))
    if captions is None and is_table:
        return replace(options, images=(), metadata=images[0])
    return options


def _refuse(parser: Parser, options: ScoreOptions) -> None:
    images, table = options.images, options.metadata
    if bool(images) == bool(table):
        parser.error("name either images, or a folder of them, or --metadata TABLE")
    if images and options.captions and options.how is None:
        parser.error("--captions FILE goes with one folder of images")
    if images and options.prompt is not None and not options.prompt.strip():
        parser.error("--prompt is empty; it is what the images were made from")
    if images and bool(options.prompt) == bool(options.captions):
        parser.error(
            "images need --prompt TEXT, what all of them were made from, or --captions txt|filename|FILE, not both"
        )
    if images and (options.shard or options.limit or options.column or options.cluster.ray):
        parser.error("--shard, --limit, --column and --ray go with --metadata")
    if table and not options.output:
        parser.error(f"{'--captions with a table' if options.captions else '--metadata'} needs --output")
    if options.server and options.cluster.ray:
        parser.error("--server and --ray exclude each other")
    if options.server:
        leave_to_server(parser)


def leave_to_server(parser: Parser) -> None:
    """Refuse flags about who scores and how; their defaults are not what the server has, so no summary holds them."""
    flags = {name: name.replace("_", "-") for name in student_flags()}
    if settled := [f"--{flag}" for name, flag in flags.items() if name in parser.given]:
        parser.error(f"{', '.join(settled)}: settled by the server, does not go with --server")
    # What is in `resolved` goes into summaries: defaults of flags that the server ignored would be wrong there.
    for flag in flags.values():
        parser.resolved.pop(flag)


def _score(options: ScoreOptions, prog: str) -> int:
    from dyneval.cli.score_output import Means

    interrupt_on_sigterm()
    options = _settled(options)
    load, means = loader(options.server, options.student), Means()
    with _gathered(options) as gathered:
        if options.tables:
            _refuse_tables(options, gathered)
        if gathered and not options.output:
            failed = _print_scores(options, load, gathered, means, prog)
        else:
            failed = _into_file(options, load, gathered, means)
    if options.output or means.count + failed > 1:
        sys.stderr.write(f"{means.line(failed)}\n")
    if means.count:
        sys.stderr.write(f"next: {_next(options, means)}\n")
    return 1 if failed else 0


def loader(server: str | None, student: StudentOptions) -> Callable[[], Scorer]:
    """What loads the student, or reaches the server at the address `server`, which has its interface."""
    if server is None:
        return student.loader()
    from dyneval.cli.served import ServedScorer

    # It is no Scorer, but has all that is asked of one here.
    return lambda: ServedScorer(server)  # type: ignore[return-value]


@contextmanager
def _gathered(options: ScoreOptions) -> Iterator[GatheredPairs | None]:
    """The pairs of images; None of a table, which is read when it is scored."""
    if options.metadata:
        yield None
        return
    is_packed = any(path.suffix.lower() in ARCHIVES for path in options.images)
    # Archives are unpacked beside --output: they may be larger than the disk of temporary files.
    place = options.output.absolute().parent if is_packed and options.output else None
    if place:
        place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".dyneval-", dir=place) as folder:
        how = options.how
        yield gather(options.images, options.prompt or "" if how is None else how, how is not None, Path(folder))


def _refuse_tables(options: ScoreOptions, gathered: GatheredPairs | None) -> None:
    """Raise SettingError where a table would take the place of the records, of the other one, or of an input."""
    from dyneval.files.atomic import refuse_overwrite
    from dyneval.files.pairs import metadata_file

    written = [*options.tables, *([options.output] if options.output else [])]
    if len({path.resolve() for path in written}) < len(written):
        raise SettingError("--output, --csv and --parquet: two of them name one file")
    # All that is read: an image or a table that is named as --csv too would be gone before it is scored.
    read = [] if gathered is None else [(gathered.root or Path()) / one.file_name for one in gathered.refs]
    read += [metadata_file(options.metadata)] if options.metadata else []
    read += [Path(options.captions)] if options.captions and options.captions not in CAPTIONS else []
    read += [options.student.questions] if options.student.questions else []
    refuse_overwrite(read, options.tables, "--csv or --parquet")


def _into_file(options: ScoreOptions, load: Callable[[], Scorer], gathered: GatheredPairs | None, means: Means) -> int:
    """Score into --output and write the tables beside it; returns how many pairs failed."""
    from dyneval.cli.score_output import write_table
    from dyneval.files.jsonl import read_records
    from dyneval.records import ScoreRecord
    from dyneval.scorer.run import score_file, score_refs

    output = options.output
    assert output is not None
    questions = [options.student.questions] if options.student.questions else []
    if gathered is not None:
        failed = score_refs(load, gathered, output, questions).rejected
    else:
        shard, cluster, metadata = options.shard, options.cluster.ray, options.metadata
        assert metadata is not None
        try:
            failed = score_file(
                load, metadata, output, options.image_root, options.limit, shard, cluster, questions, options.column
            ).rejected
        except ColumnError as error:
            raise SettingError(f"{error}; say which is which: --column image=NAME prompt=NAME") from None
        output = shard.folder(output.parent) / output.name if shard else output
    # Means of all records of the file: those of this run alone would change with every resumed run.
    for _ in means.over(read_records(output, ScoreRecord)):
        pass
    for table in options.tables:
        write_table(table, read_records(output, ScoreRecord))
    return failed


def _print_scores(
    options: ScoreOptions, load: Callable[[], Scorer], gathered: GatheredPairs, means: Means, prog: str
) -> int:
    """Print what each image got, and write the tables; returns how many pairs failed."""
    from dyneval.cli.score_output import one_line, write_table
    from dyneval.records import ScoreRecord
    from dyneval.scorer.run import tell_unused_questions

    failures = [f"{row.key}: {row.reason}" for row in gathered.rejects]
    pairs = _readable(gathered, failures)
    # The first image is read before the student is loaded, which may take minutes: a wrong path is told at once.
    first = next(pairs, None)
    records: list[ScoreRecord] = []
    if first is not None:
        is_json = options.json or not sys.stdout.isatty()
        # One record is for a person to read, several are JSON lines.
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
    for table in options.tables:
        write_table(table, records)
    if failures:
        sys.stderr.write(f"{prog}: " + "\n".join(failures) + "\n")
    return len(failures)


def _readable(gathered: GatheredPairs, failures: list[str]) -> Iterator[LoadedPair]:
    from dyneval.errors import ImageError
    from dyneval.files.images import image_path
    from dyneval.loaded_pairs import PromptError, make_pair

    for one in gathered.refs:
        try:
            pair = make_pair(image_path(gathered.root, one.file_name), one.prompt)
            yield replace(pair, pair_id=one.pair_id, image_name=one.file_name)
        except (ImageError, PromptError) as error:
            failures.append(str(error))


def _next(options: ScoreOptions, means: Means) -> str:
    """The command that follows: a board needs several models, and the best of several images several of a prompt."""
    if not options.output:
        return "the same command with --output scores.jsonl keeps the scores; dyneval serve has a page to look at"
    output = shlex.quote(str(options.output))
    metadata = f" --metadata {shlex.quote(str(options.metadata))}" if options.metadata else ""
    # A part alone is no board: the other parts belong to it.
    if options.shard:
        return f"when all parts are done, dyneval merge {output}{metadata}"
    if options.metadata and not options.column and _has_models(options.metadata):
        return f"dyneval leaderboard {output}{metadata} --output board/"
    if means.has_alternatives:
        best = shlex.quote(str(options.output.with_name("best.jsonl")))
        return f"dyneval best --scores {output} --output {best} chooses among the images of each prompt"
    return f"dyneval check NEW.jsonl --baseline {output} compares a later run; dyneval leaderboard takes a file a model"


def _has_models(table: Path) -> bool:
    """True of a table whose images are of two models or more."""
    from dyneval.files.pairs import PairRef, metadata_file, read_pairs

    pairs = read_pairs(metadata_file(table), PairRef, lambda _: None)
    models = (pair.generation_model for pair in pairs if pair.generation_model)
    first = next(models, None)
    return any(model != first for model in models)
