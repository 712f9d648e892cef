"""Put the score files of shards together, after `dyneval score --metadata ... --output scores.jsonl --shard i/n`.

    dyneval merge scores.jsonl --metadata gendb/metadata.jsonl

Says what is missing: parts that did not run, and, with --metadata, pairs that are neither scored nor among the rejects.
The exit status is then 1. The parts stay as they are; merging again adds only what has come since.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyneval.cli.student import run


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="the --output of the runs; the parts lie below shards/ beside it")
    parser.add_argument("--metadata", type=Path, help="the --metadata of the runs, to see whether all of it is scored")
    arguments = parser.parse_args(argv)
    return run(parser, lambda: _merge(arguments))


def _merge(arguments: argparse.Namespace) -> int:
    from dyneval.scorer.merge import merge_scores

    found = merge_scores(arguments.output, arguments.metadata)
    print(f"{found.added} records added, {found.in_file} in {arguments.output}, {found.rejected} rejected")
    if found.missing_shards:
        print(f"parts that did not run: {', '.join(found.missing_shards)}")
    if found.missing_pairs:
        shown = ", ".join(found.missing_pairs[:5]) + (", ..." if len(found.missing_pairs) > 5 else "")
        print(f"{len(found.missing_pairs)} pairs are not scored: {shown}")
    return 0 if found.complete else 1
