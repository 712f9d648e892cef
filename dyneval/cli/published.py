"""Convert annotations between our JSONL files and the public data set's: a mapping, one JSON file a pair and workflow.

    dyneval published import --annotations-file DYNEVAL-250K-PROMPTS.json --output annotations
    dyneval published export --metadata gendb/metadata.jsonl --annotations annotations --output DIR

The import adds the pairs to metadata.jsonl in the folder of the images. Each of the four annotations of a pair stands
on its own: what is missing or cannot be used is a line of a rejects file and counted, and the rest is kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dyneval.cli.running import run, shared
from dyneval.cli.tables import AnnotationFolder
from dyneval.flags import Parser, add_flags, arg
from dyneval.published import FOLDERS
from dyneval.records import Workflow

_FILES = "folder of <pair_id>.json files; default: {} beside the mapping"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportOptions:
    """By the names of `ImportConfig`; the flags of the four folders are those of the published builder."""

    annotations_file: Annotated[Path, arg("the mapping, DYNEVAL-250K-PROMPTS.json")]
    # Named as in the published builder, whose command lines people have.
    t2ia_questions_dir: Annotated[Path | None, arg(_FILES.format(FOLDERS["t2ia_questions"]))] = None
    t2ia_answers_dir: Annotated[Path | None, arg(_FILES.format(FOLDERS["t2ia_answers"]))] = None
    iqa_outputs_dir: Annotated[Path | None, arg(_FILES.format(FOLDERS["iqa_questions"]))] = None
    iqa_answers_dir: Annotated[Path | None, arg(_FILES.format(FOLDERS["iqa_answers"]))] = None
    images: Annotated[
        Path | None, arg("folder that the image paths are relative to; default: that of the mapping", written=True)
    ] = None
    output: Annotated[Path, arg("folder of our annotation files")]
    models: Annotated[Path | None, arg("TOML file with T2I models beside those that are known")] = None

    @property
    def folders(self) -> dict[Workflow, Path | None]:
        """Where the files of each workflow are."""
        return {
            "t2ia_questions": self.t2ia_questions_dir,
            "t2ia_answers": self.t2ia_answers_dir,
            "iqa_questions": self.iqa_outputs_dir,
            "iqa_answers": self.iqa_answers_dir,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What is written in the published form."""

    metadata: Annotated[Path, arg("metadata.jsonl of the pairs")]
    annotations: AnnotationFolder
    output: Annotated[Path, arg("folder of the published files")]


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one way; returns the exit status."""
    parser = Parser(prog, __doc__, config=False)
    ways = parser.add_subparsers(dest="way", required=True, metavar="import|export")
    add_flags(ways.add_parser("import", help="published form to JSONL"), ImportOptions)
    add_flags(ways.add_parser("export", help="JSONL to published form"), ExportOptions)
    arguments = parser.parse_args(argv)
    if arguments.way == "import":
        incoming = parser.read_options(arguments, ImportOptions)
        return run(parser, _import, incoming)
    outgoing = parser.read_options(arguments, ExportOptions)
    return run(parser, _export, outgoing)


def _import(options: ImportOptions) -> int:
    from dyneval.published.convert import ImportConfig, import_published

    print(json.dumps(import_published(ImportConfig(**shared(options, ImportConfig))), indent=2))
    return 0


def _export(options: ExportOptions) -> int:
    from dyneval.published.convert import export_published

    print(json.dumps(export_published(options.metadata, options.annotations, options.output), indent=2))
    return 0
