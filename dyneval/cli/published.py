"""Convert annotations between our JSONL files and the public data set's: a mapping, one JSON file a pair and workflow.

    dyneval published import --annotations-file DYNEVAL-250K-PROMPTS.json --output annotations
    dyneval published export --metadata gendb/metadata.jsonl --annotations annotations --output DIR

The import adds the pairs to metadata.jsonl in the folder of the images. Each of the four annotations of a pair stands
on its own: what is missing or cannot be used is a line of a rejects file and counted, and the rest is kept.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyneval.cli.running import run
from dyneval.flags import Parser
from dyneval.published import FOLDERS
from dyneval.records import Workflow

FLAGS: dict[str, Workflow] = {
    "t2ia_questions_dir": "t2ia_questions",
    "t2ia_answers_dir": "t2ia_answers",
    "iqa_outputs_dir": "iqa_questions",
    "iqa_answers_dir": "iqa_answers",
}
"""Flags of the published builder, and what lies in their folders."""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one way; returns the exit status."""
    parser = Parser(prog, __doc__, config=False)
    ways = parser.add_subparsers(dest="way", required=True, metavar="import|export")
    inwards = ways.add_parser("import", help="published form to JSONL")
    inwards.add_argument("--annotations-file", type=Path, required=True, help="the mapping, DYNEVAL-250K-PROMPTS.json")
    for flag, workflow in FLAGS.items():
        text = f"folder of <pair_id>.json files; default: {FOLDERS[workflow]} beside the mapping"
        inwards.add_argument(f"--{flag.replace('_', '-')}", type=Path, help=text)
    inwards.add_argument(
        "--images", type=Path, help="folder that the image paths are relative to; default: that of the mapping"
    )
    inwards.add_argument("--output", type=Path, required=True, help="folder of our annotation files")
    inwards.add_argument("--models", type=Path, help="TOML file with T2I models beside those that are known")
    outwards = ways.add_parser("export", help="JSONL to published form")
    outwards.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl of the pairs")
    outwards.add_argument("--annotations", type=Path, required=True, help="folder of the annotation files")
    outwards.add_argument("--output", type=Path, required=True, help="folder of the published files")
    args = parser.parse_args(argv)
    return run(parser, lambda: _convert(vars(args)))


def _convert(args: dict[str, Any]) -> int:
    from dyneval.published.convert import ImportConfig, export_published, import_published

    way = args.pop("way")
    if way == "export":
        counts = export_published(**args)
    else:
        folders = {workflow: args.pop(flag) for flag, workflow in FLAGS.items()}
        counts = import_published(ImportConfig(**args, folders=folders))
    print(json.dumps(counts, indent=2))
    return 0
