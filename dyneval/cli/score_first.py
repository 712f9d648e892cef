"""Score the images of a benchmark or a prompt list with a student, before the evaluation reads the scores.

The packages of the evaluation read score files and know no student. This is how `--checkpoint` of `dyneval benchmark`,
`leaderboard`, `reliability` and `reproduce` makes such a file, which the next run goes on with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.files.atomic import atomic_write
from dyneval.files.jsonl import to_line
from dyneval.files.store import JsonlStore
from dyneval.records import ScoreRecord

if TYPE_CHECKING:
    from dyneval.evaluation.unscored import UnscoredImage
    from dyneval.scorer import Scorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """A student that has yet to score: how it is called in tables, and what loads it."""

    name: str
    load: Callable[[], Scorer]


def score_first(
    student: StudentConfig, pairs: Iterable[UnscoredImage], images: Path, output: Path, *, alone: bool = False
) -> int:
    """Score images in the form that Step 5a writes; those that are in `output` already are left out.

    Args:
        student: loaded when there is something to score.
        pairs: the images; written as `<stem>.pairs.jsonl` beside `output`.
        images: the folder that the images lie in.
        output: JSONL of ScoreRecords, appended to.
        alone: leave these pairs alone in `output`, for who reads all of it: others move to `<output>.superseded`.

    Returns:
        How many images could not be scored; they are in `<stem>.rejects.jsonl` with their reasons.
    """
    from dyneval.scorer.run import score_file

    metadata, asked = output.with_name(f"{output.stem}.pairs.jsonl"), set()
    with atomic_write(metadata, "wb") as file:
        for pair in pairs:
            file.write(to_line(pair._asdict()))
            asked.add(pair.pair_id)
    failed = score_file(student.load, metadata, output, images).rejected
    if alone:
        # Images that were deleted or renamed since have scores here, which a board over the whole file would count.
        with JsonlStore(output, ScoreRecord, keep_rejects=True, latest_only=True) as store:
            others = [key for key in store.keys if key not in asked]
            for key in others:
                store.retire(key)
        if others:
            logger.info("%s: %d scores of images that are not asked for moved to %s", output, len(others),
                        store.superseded_path)  # fmt: skip
    return failed
