"""Decode every image that an annotation file names, and list those that cannot be read.

    $ python3 tools/check_image.py --annotation data.json --data IMAGES

Training skips or refuses such samples one by one, as it meets them; this finds all of them before it starts.
"""

import argparse
import os
import sys
from pathlib import Path

from dyneval.errors import UserError
from qwenvl.preflight.data import find_unreadable


def main() -> int:
    """Run the tool; return 1 when an image cannot be read."""
    parser = argparse.ArgumentParser(description="Find images that are missing, broken or outside their folder.")
    parser.add_argument("--annotation", type=Path, required=True, help="annotation file, JSON or JSONL")
    parser.add_argument("--data", type=Path, required=True, help="folder of its images")
    # The cores that this process may use: in a container or a job these are fewer than the machine has.
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (all cores)")
    chosen = parser.parse_args()
    try:
        checked, problems = find_unreadable(chosen.annotation, chosen.data, chosen.workers)
    except (UserError, OSError) as error:
        sys.exit(f"check_image: {error}")
    for problem in problems:
        print(problem)
    print(f"{checked} entries checked, {len(problems)} with unreadable images")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
