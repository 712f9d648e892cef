"""Convert annotations between our JSONL files and the public data set's: a mapping, one JSON file a pair and workflow.

    python "Distill Annotations/convert.py" import --annotations-file DYNEVAL-250K-PROMPTS.json --output annotations
    python "Distill Annotations/convert.py" export --metadata gendb/metadata.jsonl \
        --annotations annotations --output DIR

The import adds the pairs to metadata.jsonl in the folder of the images. Each of the four annotations of a pair stands
on its own: what is missing or cannot be used is a line of a rejects file and counted, and the rest is kept.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from dyneval.errors import UserError
from dyneval.published.annotations import FOLDERS
from dyneval.published.convert import ImportConfig, export_published, import_published
from dyneval.records import Workflow

FLAGS: dict[str, Workflow] = {
    "t2ia_questions_dir": "t2ia_questions",
    "t2ia_answers_dir": "t2ia_answers",
    "iqa_outputs_dir": "iqa_questions",
    "iqa_answers_dir": "iqa_answers",
}
"""Flags of the published builder, and what lies in their folders."""


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
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
    args = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        counts = _import(args) if args.pop("way") == "import" else export_published(**args)
    except (UserError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(json.dumps(counts, indent=2))


def _import(args: dict[str, Any]) -> dict[str, dict[str, int]]:
    folders = {workflow: args.pop(flag) for flag, workflow in FLAGS.items()}
    return import_published(ImportConfig(**args, folders=folders))


if __name__ == "__main__":
    main()
