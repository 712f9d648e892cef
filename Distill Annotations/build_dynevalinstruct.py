"""Build DynEvalInstruct from the teacher's annotations: one training file a stage, and the held-out pairs.

    python "Distill Annotations/build_dynevalinstruct.py" --metadata gendb/metadata.jsonl --annotations annotations \
        --output instruct

Writes dynevalinstruct_t2ia.json (Stage 1: T2IA and EVALUATION), dynevalinstruct_iqa.json (Stage 2: IQA and
EVALUATION), heldout.jsonl (pairs whose prompts are in neither), rejects.jsonl and summary.json.
"""

import argparse
import json
import logging
from pathlib import Path

from dyneval.instruct.builder import BuildConfig, build
from dyneval.instruct.curation import Curation
from dyneval.tokens import DEFAULT_TEMPLATE, TEMPLATE_VERSIONS


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl of the pairs")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the four annotation files")
    parser.add_argument("--output", type=Path, required=True, help="folder of the training files")
    parser.add_argument("--heldout", type=float, default=0.1, help="share of prompts kept back; default: %(default)s")
    parser.add_argument(
        "--delta", type=float, nargs="+", default=[5.0], help="keep pairs with S below this; one value or one a tier"
    )
    parser.add_argument("--template", choices=TEMPLATE_VERSIONS, default=DEFAULT_TEMPLATE, help="default: %(default)s")
    parser.add_argument("--skip-image-check", action="store_true", help="do not look whether the images are there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if len(args.delta) not in (1, 3):
        parser.error(f"--delta takes one value or three, not {len(args.delta)}")
    deltas = dict(zip((1, 2, 3), args.delta * (3 // len(args.delta)), strict=True))
    try:
        config = BuildConfig(
            metadata=args.metadata,
            annotations=args.annotations,
            output=args.output,
            curation=Curation(delta=deltas, heldout=args.heldout),
            template=args.template,
            check_images=not args.skip_image_check,
        )
        print(json.dumps(build(config), indent=2))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
