"""Score the images of a benchmark or a prompt list with a DynEval student, in the form that Step 5a writes.

The only place of this room that meets the scorer, inside the function that runs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dyneval.storage import atomic_write


class Pair(NamedTuple):
    """An image, as a path below the image folder, the prompt it was made from, and the pair's id."""

    pair_id: str
    prompt: str
    file_name: str


def score_pairs(
    checkpoint: str,
    pairs: Iterable[Pair],
    images: Path,
    output: Path,
    *,
    subfolder: str | None = None,
    batch_size: int = 8,
) -> int:
    """Score pairs with a checkpoint; pairs that are in `output` already are left out.

    Args:
        checkpoint: folder or Hugging Face repository of the student.
        pairs: what to score; written as `<stem>.pairs.jsonl` beside `output`.
        images: the folder that the images lie in.
        output: JSONL of ScoreRecords, appended to.
        subfolder: folder of the student inside the checkpoint.
        batch_size: pairs at a time.

    Returns:
        How many pairs could not be scored; they are in `<stem>.rejects.jsonl` with their reasons.
    """
    from dyneval.scorer import Scorer, ScorerSettings
    from dyneval.scorer.run import score_file

    metadata = output.with_name(f"{output.stem}.pairs.jsonl")
    with atomic_write(metadata) as file:
        for pair in pairs:
            file.write(json.dumps(pair._asdict(), ensure_ascii=False) + "\n")
    settings = ScorerSettings(batch_size=batch_size)
    load = partial(Scorer.from_pretrained, checkpoint, subfolder, settings=settings)
    return score_file(load, metadata, output, images).failed
