"""Score the images of a benchmark or a prompt list with a student, before the evaluation reads the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.files.atomic import atomic_write
from dyneval.files.jsonl import to_line

if TYPE_CHECKING:
    from dyneval.evaluation.unscored import Unscored
    from dyneval.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Student:
    """An evaluator that has yet to score: how it is called, and what loads it."""

    name: str
    load: Callable[[], Scorer]


def score_first(student: Student, pairs: Iterable[Unscored], images: Path, output: Path) -> int:
    """Score images in the form that Step 5a writes; those that are in `output` already are left out.

    Args:
        student: loaded when there is something to score.
        pairs: the images; written as `<stem>.pairs.jsonl` beside `output`.
        images: the folder that the images lie in.
        output: JSONL of ScoreRecords, appended to.

    Returns:
        How many images could not be scored; they are in `<stem>.rejects.jsonl` with their reasons.
    """
    from dyneval.scorer.run import score_file

    metadata = output.with_name(f"{output.stem}.pairs.jsonl")
    with atomic_write(metadata, "wb") as file:
        file.writelines(to_line(pair._asdict()) for pair in pairs)
    return score_file(student.load, metadata, output, images).rejected
