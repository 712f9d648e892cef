"""Put the annotation files of shards together, after runs with --shard i/n into the same output folder.

python "Distill Annotations/merge.py" --output annotations
"""

import argparse
import json
from pathlib import Path

from dyneval.teacher.merge import merge


def main() -> None:
    """Parse the command line and merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the output folder of the runs")
    args = parser.parse_args()
    try:
        print(json.dumps(merge(args.output), indent=2))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
