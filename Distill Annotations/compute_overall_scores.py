"""Overall score of every annotated pair: alpha * IQA + beta * T2IA, each 1-5.

    python "Distill Annotations/compute_overall_scores.py" --metadata gendb/metadata.jsonl \
        --annotations annotations --output annotations/overall_scores.csv

Pairs without T2IA or IQA answers are listed beside the scores.
"""

import argparse
import json
from pathlib import Path

from dyneval.errors import UserError
from dyneval.instruct.overall import OverallConfig, compute_overall_scores


def main() -> None:
    """Parse the command line and compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl of the pairs")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the four annotation files")
    parser.add_argument("--output", type=Path, required=True, help="file to write, .json or .csv")
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of IQA; default: %(default)s")
    parser.add_argument("--beta", type=float, default=0.5, help="weight of T2IA; default: %(default)s")
    args = parser.parse_args()
    try:
        print(json.dumps(compute_overall_scores(OverallConfig(**vars(args))), indent=2))
    except (UserError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
