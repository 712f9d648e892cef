"""Put the files of shards together, after `dyneval score` or `dyneval annotate` with --shard i/n and one --output.

    dyneval merge scores.jsonl --metadata gendb/metadata.jsonl       # score files
    dyneval merge annotations --metadata gendb/metadata.jsonl        # a folder of annotation files

Says what is missing: parts that did not run, and, with --metadata, pairs that are neither done nor among the rejects.
The exit status is then 1. The parts stay as they are; merging again adds only what has come since. With --metadata,
annotations whose prompt was edited or whose image was replaced give way to those of a shard.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dyneval.cli.running import run
from dyneval.errors import DataFileError
from dyneval.files.pairs import PairRef, read_pairs
from dyneval.files.parts import merge_file, missing_shards, shard_folders
from dyneval.files.store import JsonlIndex, read_rejects, rejects_beside
from dyneval.flags import Parser, arg
from dyneval.records import ScoreRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeOptions:
    """Whose parts are put together."""

    whole: Annotated[
        Path,
        arg(
            "the --output of the runs: a score file, or a folder of annotations; its parts lie below shards/",
            position=True,
            flag="output",
            metavar="OUTPUT",
        ),
    ]
    metadata: Annotated[Path | None, arg("the --metadata of the runs, to see whether all of it is there")] = None


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(MergeOptions, argv)
    merge = _merge_annotations if options.whole.is_dir() else _merge
    return run(parser, merge, options)


def _merge_annotations(options: MergeOptions) -> int:
    from dyneval.teacher.merge import check_complete, merge

    print(json.dumps(merge(options.whole, options.metadata), indent=2))
    if options.metadata:
        check_complete(options.whole, options.metadata)
    return 0


def _merge(options: MergeOptions) -> int:
    found = merge_scores(options.whole, options.metadata)
    print(f"{found.added} records added, {found.in_file} in {options.whole}, {found.rejected} rejected")
    if found.missing_shards:
        print(f"parts that did not run: {', '.join(found.missing_shards)}")
    if found.missing_pairs:
        # Five show which part is missing; a file may lack 100,000.
        shown = ", ".join(found.missing_pairs[:5]) + (", ..." if len(found.missing_pairs) > 5 else "")
        print(f"{len(found.missing_pairs)} pairs are not scored: {shown}")
    return 0 if found.complete else 1


@dataclass(frozen=True, slots=True)
class MergedScores:
    """Records added, in the file and rejected; parts that did not run; pairs neither scored nor rejected."""

    added: int
    in_file: int
    rejected: int
    missing_shards: list[str]
    missing_pairs: list[str]

    @property
    def complete(self) -> bool:
        """True when every pair is scored, as far as is known."""
        return not (self.rejected or self.missing_shards or self.missing_pairs)


def merge_scores(output: Path, metadata: Path | None = None) -> MergedScores:
    """Add the records of the parts below `shards` beside `output` to it.

    Args:
        output: the score file of the whole.
        metadata: the pairs that should be scored; None leaves unsaid which of them are missing.

    Raises:
        DataFileError: there are no parts, a run is still writing to one, they are of different divisions, a file
            cannot be read, or one pair has two records that differ.
    """
    wanted = list(read_pairs(metadata, PairRef, lambda _: None)) if metadata else []
    parts = shard_folders(output.parent)
    absent = missing_shards(parts)
    if not any((part / output.name).exists() for part in parts):
        raise DataFileError(
            f"{output}: no part of it is there; expected {parts[0] / output.name}, as `dyneval score --output {output} "
            "--shard I/N` writes it"
        )
    # `content`: two records of one pair with the same key are of the same image, prompt, student and settings.
    merged = merge_file(output, ScoreRecord, parts, content="key")
    scored = JsonlIndex(output, ScoreRecord)
    scored.close()
    # A rejected pair is not missing: its reason is known, and running its part again would not help.
    rejected = read_rejects(rejects_beside(output), ScoreRecord.KEY)
    missing = [one.pair_id for one in wanted if one.pair_id not in scored and one.pair_id not in rejected]
    return MergedScores(merged.added, merged.in_file, merged.rejected, absent, missing)
