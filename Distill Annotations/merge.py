"""Put the annotation files of shards together, after runs with --shard i/n into the same output folder.

    python "Distill Annotations/merge.py" --output annotations --metadata gendb/metadata.jsonl

With --metadata it also looks whether the whole is complete, and rows of the whole whose prompt was edited or whose
image was replaced make room for those of a shard; the exit status is 1 where a shard has not done its part.
"""

import argparse
import json
from pathlib import Path

from dyneval.errors import UserError
from dyneval.teacher.merge import check_complete, merge


def main() -> None:
    """Parse the command line and merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the output folder of the runs")
    parser.add_argument("--metadata", type=Path, help="the pairs; one neither annotated nor rejected is an error")
    args = parser.parse_args()
    try:
        counts = merge(args.output, args.metadata)
        print(json.dumps(counts, indent=2))
        if args.metadata:
            check_complete(args.output, args.metadata)
    except (UserError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
