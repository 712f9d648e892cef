"""Convert annotations between our JSONL files and the published form (one JSON file a pair, mapping files).

    python "Distill Annotations/convert.py" import --published DIR --images gendb --output annotations
    python "Distill Annotations/convert.py" export --metadata gendb/metadata.jsonl \
        --annotations annotations --output DIR

The import writes metadata.jsonl beside the images where there is none. What cannot be read is reported and left out.
"""

import argparse
import json
import logging
from pathlib import Path

from dyneval.teacher.convert import ImportConfig, export_published, import_published

MODELS = Path(__file__).parents[1] / "image_gen_scripts" / "models.csv"


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
    inwards = ways.add_parser("import", help="published form to JSONL")
    inwards.add_argument("--published", type=Path, required=True, help="folder of t2ia_mapping.json, iqa_mapping.json")
    inwards.add_argument("--images", type=Path, required=True, help="folder that the image paths are relative to")
    inwards.add_argument("--output", type=Path, required=True, help="folder of the annotation files")
    inwards.add_argument("--models", type=Path, default=MODELS, help="tiers of the T2I models; default: %(default)s")
    outwards = ways.add_parser("export", help="JSONL to published form")
    outwards.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl of the pairs")
    outwards.add_argument("--annotations", type=Path, required=True, help="folder of the annotation files")
    outwards.add_argument("--output", type=Path, required=True, help="folder of the published files")
    args = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        counts = import_published(ImportConfig(**args)) if args.pop("way") == "import" else export_published(**args)
    except (ValueError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(json.dumps(counts, indent=2))
    failed = counts.get("rejected", 0) + counts.get("incomplete", 0)
    if failed and not any(counts.get(name) for name in ("t2ia", "iqa", "t2ia_questions", "iqa_questions")):
        parser.exit(1, f"{parser.prog}: nothing was converted\n")


if __name__ == "__main__":
    main()
