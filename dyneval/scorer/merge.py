"""Puts the score files of shards together, and looks whether anything is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dyneval.files.pairs import PairRef, read_pairs
from dyneval.files.parts import merge_file, missing_shards, shard_folders
from dyneval.files.store import JsonlIndex, read_rejects, rejects_beside
from dyneval.records import ScoreRecord


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
    parts = shard_folders(output.parent)
    absent = missing_shards(parts)
    merged = merge_file(output, ScoreRecord, parts, content="key")
    missing = _missing(output, metadata) if metadata else []
    return MergedScores(merged.added, merged.in_file, merged.rejected, absent, missing)


def _missing(output: Path, metadata: Path) -> list[str]:
    scored = JsonlIndex(output, ScoreRecord)
    scored.close()
    rejected = read_rejects(rejects_beside(output), ScoreRecord.KEY)
    wanted = read_pairs(metadata, PairRef, lambda _: None)
    return [one.pair_id for one in wanted if one.pair_id not in scored and one.pair_id not in rejected]
