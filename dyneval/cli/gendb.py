"""What a GenDB holds, parts of it, and other forms of it; every image that goes out is checked.

dyneval gendb stats gendb/
dyneval gendb filter gendb/ part/ --model sdxl --where "width >= 1024" --unique
dyneval gendb parquet gendb/ parquet/
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from dyneval import model_table
from dyneval.cli.running import run, shared
from dyneval.errors import SettingError
from dyneval.files.atomic import refuse_overwrite
from dyneval.files.hub import HubOptions
from dyneval.flags import Parser, add_flags, arg

if TYPE_CHECKING:
    from dyneval.generation.index import Selection

log = logging.getLogger(__name__)
# What is uploaded of an output folder: what `hub` writes, in either form. Another file that lies there stays here.
PUBLISHED_FILES = ("README.md", "data/*.parquet", "metadata.jsonl", "*.png", "*.webp", "*.jpg", "*.jpeg")


# The options of the verbs: most share those that choose pairs.


@dataclass(frozen=True, kw_only=True, slots=True)
class PairChoice:
    """Which pairs of a GenDB; by the names of `Selection`."""

    gendb: Annotated[Path, arg("folder with metadata.jsonl", position=True)]
    models: Annotated[
        tuple[str, ...],
        arg("of this model; may be repeated", flag="model", metavar="SLUG", heading="which pairs (default: all)"),
    ] = ()
    categories: Annotated[
        tuple[str, ...], arg("of this category; may be repeated", flag="category", metavar="NAME")
    ] = ()
    tiers: Annotated[tuple[Literal[1, 2, 3], ...], arg("of this tier; may be repeated", flag="tier")] = ()
    where: Annotated[str | None, arg('a condition on the index: "width >= 1024 AND seconds < 60"', metavar="SQL")] = (
        None
    )
    unique: Annotated[bool, arg("of images with the same bytes only the first by pair_id")] = False
    limit: Annotated[int | None, arg("only the first N", metavar="N", ge=1)] = None

    @property
    def selection(self) -> Selection:
        """As the rest of the package takes it."""
        from dyneval.generation.index import Selection

        return Selection(**shared(self, Selection))


@dataclass(frozen=True, kw_only=True, slots=True)
class StatsOptions(PairChoice):
    """Options of `stats`."""

    json: Annotated[bool, arg("as JSON", heading="")] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCheckOptions(PairChoice):
    """Options of `check`."""

    output: Annotated[Path | None, arg("file for the broken ones (default: GENDB/broken.jsonl)", heading="")] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteOptions(PairChoice):
    """Options of what writes something."""

    output: Annotated[Path, arg("folder or file to write, also as --output OUTPUT", position=True, heading="")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardOptions(WriteOptions):
    """Options of what writes shards."""

    shard_mb: Annotated[int, arg("megabytes of images a shard", ge=1)] = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class HubExportOptions(ShardOptions):
    """Options of `hub`."""

    form: Annotated[
        Literal["parquet", "imagefolder"],
        arg("parquet: shards with the images inside, each of them checked; imagefolder: metadata.jsonl and links"),
    ] = "parquet"
    name: Annotated[str, arg("title of the card")] = "DynEval GenDB"
    more_models: Annotated[Path | None, arg("TOML file with more models, for names and licences", flag="models")] = None
    hub: Annotated[HubOptions, arg("")] = field(default_factory=HubOptions)


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingOptions:
    """Options of `from-mapping`."""

    mapping: Annotated[Path, arg("the mapping file", position=True)]
    images: Annotated[Path, arg("folder where its image paths begin; becomes the GenDB", position=True, written=True)]
    models: Annotated[Path | None, arg("TOML file with more models than those that are known")] = None
    tier: Annotated[Literal[1, 2, 3] | None, arg("tier of pairs whose model is not known (none)")] = None


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one verb; returns 0, or 1 where pairs could not be converted or are broken, or 2 when nothing could."""
    parser = Parser(prog, __doc__, config=False)
    verbs = parser.add_subparsers(required=True)
    for name, action, options, purpose in (
        ("stats", _stats, StatsOptions, "pairs by model and category, their time, cost and sizes"),
        ("duplicates", _duplicates, PairChoice, "images that are there twice: a JSON list of pair_ids a line"),
        ("check", _check, ImageCheckOptions, "decode and hash every image; the broken ones go to broken.jsonl"),
        ("filter", _filter, WriteOptions, "a GenDB of some of the pairs; files are linked, not copied"),
        (
            "parquet",
            partial(_shards, writer="write_parquet"),
            ShardOptions,
            "Parquet shards with the images inside, for datasets.load_dataset",
        ),
        (
            "webdataset",
            partial(_shards, writer="write_webdataset"),
            ShardOptions,
            "WebDataset tar files: image and record under one key, sidecars in the record",
        ),
        (
            "hub",
            _hub,
            HubExportOptions,
            "a dataset for the Hugging Face Hub: Parquet shards or an ImageFolder, and a card",
        ),
        ("to-mapping", _to_mapping, WriteOptions, 'the published mapping, {"prompts": [...]}'),
        ("contact-sheet", _contact_sheet, WriteOptions, "a picture with one image for each model and category"),
        ("from-mapping", _from_mapping, MappingOptions, "metadata.jsonl for the images of a published mapping"),
    ):
        sub = verbs.add_parser(name, help=purpose, description=purpose)
        add_flags(sub, options)
        sub.set_defaults(run=action, options=options)
    arguments = parser.parse_args(argv)
    options = parser.read_options(arguments, arguments.options)
    return run(parser, arguments.run, options, status=2)


def _told(output: Path, written: int, rejected: int, what: str = "pairs") -> int:
    log.info("%s: %d %s, %d rejected", output, written, what, rejected)
    # What could be written is there; 1 says that it is not all.
    return 1 if rejected else 0


def _stats(options: StatsOptions) -> int:
    from dyneval.generation import curating
    from dyneval.generation.index import Index

    found = curating.statistics(Index(options.gendb), options.selection)
    sys.stdout.write((json.dumps(found, indent=1) if options.json else curating.table(found)) + "\n")
    return 0


def _duplicates(options: PairChoice) -> int:
    from dyneval.generation import curating
    from dyneval.generation.index import Index

    groups = extra = 0
    for pair_ids in curating.duplicates(Index(options.gendb), options.selection):
        sys.stdout.write(json.dumps(pair_ids) + "\n")
        groups, extra = groups + 1, extra + len(pair_ids) - 1
    log.info("%d images are there more than once, %d too many; `filter --unique` leaves them out", groups, extra)
    return 0


def _check(options: ImageCheckOptions) -> int:
    from dyneval.files.store import write_rejects
    from dyneval.generation import curating
    from dyneval.generation.index import Index
    from dyneval.records import PairRecord

    output = options.output or options.gendb / "broken.jsonl"
    refuse_overwrite([options.gendb / "metadata.jsonl"], [output])
    found = curating.broken(Index(options.gendb), options.selection)
    # Told before hours of work: decoding 500,000 images took five minutes at 32 px a side, and hours at 1024.
    if output.parent.is_dir() and not os.access(output.parent, os.W_OK, effective_ids=True):
        raise SettingError(f"{output}: cannot be written; name another --output")
    faults = list(found)
    write_rejects(output, faults, PairRecord.KEY)
    log.info("%d pairs are broken%s", len(faults), f": {output}" if faults else "")
    return 1 if faults else 0


def _filter(options: WriteOptions) -> int:
    from dyneval.generation import curating
    from dyneval.generation.index import Index

    written, lost = curating.copy_selection(Index(options.gendb), options.selection, options.output)
    for fault in lost:
        log.warning("%s: %s", fault.key, fault.reason)
    return _told(options.output, written, len(lost))


def _shards(options: ShardOptions, writer: str) -> int:
    from dyneval.generation import exporting

    write = getattr(exporting, writer)
    counts = write(options.gendb, options.output, options.shard_mb * 1_000_000, options.selection)
    return _told(options.output, counts.written, counts.rejected)


def _hub(options: HubExportOptions) -> int:
    from dyneval.generation import catalogue, hub

    # The repository is made first: a wrong token is told before the images are copied.
    specs, repository = catalogue.load(options.more_models), options.hub.open("dataset")
    counts = hub.write_dataset(
        options.gendb,
        options.output,
        specs,
        options.selection,
        options.shard_mb * 1_000_000,
        options.name,
        options.form,
    )
    if repository:
        log.info("uploaded: %s", repository.upload(options.output, "DynEval: images", PUBLISHED_FILES))
    return _told(options.output, counts.written, counts.rejected)


def _to_mapping(options: WriteOptions) -> int:
    from dyneval.generation.exporting import ExportCounts, read_records
    from dyneval.published.mapping import entry_of, write_mapping

    refuse_overwrite([options.gendb / "metadata.jsonl"], [options.output])
    counts = ExportCounts(shards=1)
    counts.written = write_mapping(
        options.output, map(entry_of, read_records(options.gendb, counts, options.selection))
    )
    return _told(options.output, counts.written, counts.rejected)


def _contact_sheet(options: WriteOptions) -> int:
    from dyneval.generation.contact_sheet import draw_contact_sheet

    counts = draw_contact_sheet(options.gendb, options.output, options.selection)
    return _told(options.output, counts.written, counts.rejected, "images")


def _from_mapping(options: MappingOptions) -> int:
    from dyneval.published.mapping import PairMaker, add_pairs

    maker = PairMaker(options.images, model_table.tiers(options.models), options.tier)
    written, rejected = add_pairs(options.mapping, maker)
    return _told(options.images / "metadata.jsonl", written, rejected)
