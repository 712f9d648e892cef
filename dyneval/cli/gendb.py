"""What a GenDB holds, parts of it, and other forms of it; every image that goes out is checked.

dyneval gendb stats gendb/
dyneval gendb filter gendb/ part/ --model sdxl --where "width >= 1024" --unique
dyneval gendb parquet gendb/ parquet/
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval import model_table
from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser, positive

if TYPE_CHECKING:
    from dyneval.generation.index import Selection

log = logging.getLogger(__name__)
PUBLISHED_FILES = ("README.md", "data/*.parquet")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one verb; returns 0, or 1 where pairs could not be converted or are broken, or 2 when nothing could."""
    words = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(prog, any(word.partition("=")[0] == "--output" for word in words))
    args = parser.parse_args(words)
    return run(parser, lambda: int(args.run(args)), status=2)


def _parser(prog: str | None, names_output: bool) -> Parser:
    """`names_output`: OUTPUT is given as a flag. argparse cannot take one argument in both ways."""
    parser = Parser(prog, __doc__, config=False)
    verbs = parser.add_subparsers(required=True)

    def verb(name: str, action: Callable[[argparse.Namespace], int], purpose: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=purpose, description=purpose)
        sub.set_defaults(run=action)
        return sub

    for name, action, purpose in (
        ("stats", _stats, "pairs by model and category, their time, cost and sizes"),
        ("duplicates", _duplicates, "images that are there twice: a JSON list of pair_ids a line"),
        ("check", _check, "decode and hash every image; the broken ones go to broken.jsonl"),
        ("filter", _filter, "a GenDB of some of the pairs; files are linked, not copied"),
        ("parquet", _parquet, "Parquet shards with the images inside, for datasets.load_dataset"),
        ("webdataset", _webdataset, "WebDataset tar files: image and record under one key, sidecars in the record"),
        ("hub", _hub, "a dataset for the Hugging Face Hub: Parquet shards and a card"),
        ("to-mapping", _to_mapping, 'the published mapping, {"prompts": [...]}'),
        ("contact-sheet", _contact_sheet, "a picture with one image for each model and category"),
    ):
        sub = verb(name, action, purpose)
        sub.add_argument("gendb", type=Path, help="folder with metadata.jsonl")
        if name not in ("stats", "duplicates", "check"):
            output = sub.add_argument("--output" if names_output else "output", type=Path)
            output.help, output.required = "folder or file to write, also as --output OUTPUT", True
        _add_selection(sub)
        if name in ("parquet", "webdataset", "hub"):
            sub.add_argument("--shard-mb", type=positive, default=500, help="megabytes of images a shard (default 500)")
        if name == "stats":
            sub.add_argument("--json", action="store_true", help="as JSON")
        if name == "check":
            sub.add_argument("--output", type=Path, help="file for the broken ones (default: GENDB/broken.jsonl)")
        if name == "hub":
            _add_hub(sub)
    _add_from_mapping(verb("from-mapping", _from_mapping, "metadata.jsonl for the images of a published mapping"))
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("which pairs (default: all)").add_argument
    add("--model", action="append", default=[], metavar="SLUG", help="of this model; may be repeated")
    add("--category", action="append", default=[], metavar="NAME", help="of this category; may be repeated")
    add("--tier", action="append", default=[], type=int, choices=(1, 2, 3), help="of this tier; may be repeated")
    add("--where", metavar="SQL", help='a condition on the index: "width >= 1024 AND seconds < 60"')
    add("--unique", action="store_true", help="of images with the same bytes only the first by pair_id")
    add("--limit", type=positive, metavar="N", help="only the first N")


def _add_hub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="DynEval GenDB", help="title of the card (default: %(default)s)")
    parser.add_argument("--models", type=Path, help="TOML file with more models, for names and licences")
    parser.add_argument(
        "--push-to-hub",
        "--push_to_hub",
        dest="push",
        metavar="USER/NAME",
        help="upload it there; the token comes from HF_TOKEN",
    )
    parser.add_argument("--private", action="store_true", help="make the dataset private")


def _add_from_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mapping", type=Path, help="the mapping file")
    parser.add_argument("images", type=Path, help="folder where its image paths begin; becomes the GenDB")
    parser.add_argument("--models", type=Path, help="TOML file with more models than those that are known")
    parser.add_argument("--tier", type=int, choices=(1, 2, 3), help="tier of pairs whose model is not known (none)")


def _selection(args: argparse.Namespace) -> Selection:
    from dyneval.generation.index import Selection

    return Selection(
        models=args.model,
        categories=args.category,
        tiers=args.tier,
        where=args.where,
        unique=args.unique,
        limit=args.limit,
    )


def _told(output: Path, written: int, rejected: int, what: str = "pairs") -> int:
    log.info("%s: %d %s, %d rejected", output, written, what, rejected)
    return 1 if rejected else 0


def _stats(args: argparse.Namespace) -> int:
    from dyneval.generation import curating
    from dyneval.generation.index import Index

    found = curating.statistics(Index(args.gendb), _selection(args))
    sys.stdout.write((json.dumps(found, indent=1) if args.json else curating.table(found)) + "\n")
    return 0


def _duplicates(args: argparse.Namespace) -> int:
    from dyneval.generation import curating
    from dyneval.generation.index import Index

    groups = extra = 0
    for pair_ids in curating.duplicates(Index(args.gendb), _selection(args)):
        sys.stdout.write(json.dumps(pair_ids) + "\n")
        groups, extra = groups + 1, extra + len(pair_ids) - 1
    log.info("%d images are there more than once, %d too many; `filter --unique` leaves them out", groups, extra)
    return 0


def _check(args: argparse.Namespace) -> int:
    from dyneval.files.store import write_rejects
    from dyneval.generation import curating
    from dyneval.generation.index import Index
    from dyneval.records import PairRecord

    output = args.output or args.gendb / "broken.jsonl"
    found = curating.broken(Index(args.gendb), _selection(args))
    if output.parent.is_dir() and not os.access(
        output.parent, os.W_OK, effective_ids=True
    ):  # told before hours of work
        raise SettingError(f"{output}: cannot be written; name another --output")
    faults = list(found)
    write_rejects(output, faults, PairRecord.KEY)
    log.info("%d pairs are broken%s", len(faults), f": {output}" if faults else "")
    return 1 if faults else 0


def _filter(args: argparse.Namespace) -> int:
    from dyneval.generation import curating
    from dyneval.generation.index import Index

    written, lost = curating.copy_selection(Index(args.gendb), _selection(args), args.output)
    for fault in lost:
        log.warning("%s: %s", fault.key, fault.reason)
    return _told(args.output, written, len(lost))


def _parquet(args: argparse.Namespace) -> int:
    from dyneval.generation.exporting import write_parquet

    counts = write_parquet(args.gendb, args.output, args.shard_mb * 1_000_000, _selection(args))
    return _told(args.output, counts.written, counts.rejected)


def _webdataset(args: argparse.Namespace) -> int:
    from dyneval.generation.exporting import write_webdataset

    counts = write_webdataset(args.gendb, args.output, args.shard_mb * 1_000_000, _selection(args))
    return _told(args.output, counts.written, counts.rejected)


def _hub(args: argparse.Namespace) -> int:
    from dyneval.files.hub import open_dataset, push_dataset
    from dyneval.generation import catalogue, hub

    specs = catalogue.load(args.models)
    repository = open_dataset(args.push, args.private) if args.push else None
    counts = hub.write_dataset(args.gendb, args.output, specs, _selection(args), args.shard_mb * 1_000_000, args.name)
    if repository:
        log.info("uploaded: %s", push_dataset(args.output, repository, PUBLISHED_FILES, "DynEval: images"))
    return _told(args.output, counts.written, counts.rejected)


def _to_mapping(args: argparse.Namespace) -> int:
    from dyneval.generation.exporting import Counts, read_records
    from dyneval.published.mapping import entry_of, write_mapping

    counts = Counts(shards=1)
    counts.written = write_mapping(args.output, map(entry_of, read_records(args.gendb, counts, _selection(args))))
    return _told(args.output, counts.written, counts.rejected)


def _contact_sheet(args: argparse.Namespace) -> int:
    from dyneval.generation.contact_sheet import draw_contact_sheet

    counts = draw_contact_sheet(args.gendb, args.output, _selection(args))
    return _told(args.output, counts.written, counts.rejected, "images")


def _from_mapping(args: argparse.Namespace) -> int:
    from dyneval.published.mapping import PairMaker, add_pairs

    maker = PairMaker(args.images, model_table.tiers(args.models), args.tier)
    written, rejected = add_pairs(args.mapping, maker)
    return _told(args.images / "metadata.jsonl", written, rejected)
