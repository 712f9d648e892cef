"""Pack an annotation file: samples are put together into entries of at most --model_max_length tokens.

    $ python3 tools/pack_data.py --annotation data.json --data IMAGES --model_name_or_path DIR --output packed.json

Training packs by itself with `--data_packing True`. This file is for packing once and training often, or for looking
at the bins; it is used like any annotation file, with `--data_flatten True --per_device_train_batch_size 1`.
"""

import argparse
import os
import sys
from pathlib import Path

from dyneval.errors import UserError
from dyneval.processing import Processor
from qwenvl.data.pack_file import write_packed


def main() -> int:
    """Run the tool; return 1 when samples are bad."""
    parser = argparse.ArgumentParser(description="Pack the samples of an annotation file into full sequences.")
    parser.add_argument("--annotation", type=Path, required=True, help="annotation file, JSON or JSONL")
    parser.add_argument("--data", type=Path, required=True, help="folder of its images")
    parser.add_argument("--model_name_or_path", required=True, help="checkpoint whose tokenizer counts")
    parser.add_argument("--output", type=Path, required=True, help="packed annotation file, JSON")
    parser.add_argument("--model_max_length", type=int, default=8192, help="tokens of a bin")
    # They decide how many tokens an image takes, so bins packed with others would be too full or half empty.
    parser.add_argument("--max_pixels", type=int, help="as in training")
    parser.add_argument("--min_pixels", type=int, help="as in training")
    parser.add_argument("--seed", type=int, default=42, help="order in which samples are drawn")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (all cores)")
    chosen = parser.parse_args()
    try:
        processor = Processor.for_training(chosen.model_name_or_path, chosen.min_pixels, chosen.max_pixels)
        summary = write_packed(
            chosen.annotation,
            chosen.data,
            processor,
            chosen.output,
            chosen.model_max_length,
            chosen.seed,
            chosen.workers,
        )
    except (UserError, OSError) as error:
        sys.exit(f"pack_data: {error}")
    print(summary)
    # The packed file is whole all the same; the exit code says that some samples are not in it.
    return 1 if summary.bad else 0


if __name__ == "__main__":
    sys.exit(main())
