"""Command line of image_gen_scripts/gendb.py."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dyneval import model_table
from dyneval.errors import UserError
from dyneval.generation.exporting import Counts

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one conversion; returns 0, or 1 when pairs could not be converted, or 2 when nothing could."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        counts = args.run(args)
    except (UserError, OSError) as error:
        log.error("error: %s", error)
        return 2
    log.info("%d pairs converted, %d rejected", counts.written, counts.rejected)
    return 1 if counts.rejected else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="GenDB in other forms; every image is checked on the way.")
    verbs = parser.add_subparsers(required=True, metavar="FORM")

    def verb(name: str, run: Callable[[argparse.Namespace], Counts], purpose: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=purpose, description=purpose)
        sub.set_defaults(run=run)
        return sub

    for name, run, purpose in (
        ("parquet", _parquet, "Parquet shards with the images inside, for datasets.load_dataset"),
        ("webdataset", _webdataset, "WebDataset tar files: image, record and sidecars under one key"),
        ("to-mapping", _to_mapping, 'the published mapping, {"prompts": [...]}'),
        ("contact-sheet", _contact_sheet, "a picture with one image for each model and category"),
    ):
        sub = verb(name, run, purpose)
        sub.add_argument("gendb", type=Path, help="folder with metadata.jsonl")
        sub.add_argument("output", type=Path, help="folder or file to write")
        if name in ("parquet", "webdataset"):
            sub.add_argument("--shard-mb", type=int, default=500, help="megabytes of images a shard (default 500)")
    sub = verb("from-mapping", _from_mapping, "metadata.jsonl for the images of a published mapping")
    sub.add_argument("mapping", type=Path, help="the mapping file")
    sub.add_argument("images", type=Path, help="folder where its image paths begin; becomes the GenDB")
    sub.add_argument("--models", type=Path, help="TOML file with more models than those that are known")
    sub.add_argument("--tier", type=int, choices=(1, 2, 3), help="tier of pairs whose model is not known (none)")
    return parser


def _parquet(args: argparse.Namespace) -> Counts:
    from dyneval.generation.exporting import write_parquet

    return write_parquet(args.gendb, args.output, args.shard_mb * 1_000_000)


def _webdataset(args: argparse.Namespace) -> Counts:
    from dyneval.generation.exporting import write_webdataset

    return write_webdataset(args.gendb, args.output, args.shard_mb * 1_000_000)


def _to_mapping(args: argparse.Namespace) -> Counts:
    from dyneval.generation.exporting import read_records
    from dyneval.published.mapping import entry_of, write_mapping

    counts = Counts(shards=1)
    counts.written = write_mapping(args.output, map(entry_of, read_records(args.gendb, counts)))
    return counts


def _contact_sheet(args: argparse.Namespace) -> Counts:
    from dyneval.generation.contact_sheet import draw_contact_sheet

    return draw_contact_sheet(args.gendb, args.output)


def _from_mapping(args: argparse.Namespace) -> Counts:
    from dyneval.published.mapping import PairMaker, add_pairs

    maker = PairMaker(args.images, model_table.tiers(args.models), args.tier)
    written, rejected = add_pairs(args.mapping, maker)
    return Counts(written=written, rejected=rejected, shards=1)
