"""Writes an annotation file whose entries are bins of samples; `tools/pack_data.py` is its command line.

The trainer packs in memory with `--data_packing True`. This does the same once, into a file, for training often.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.files.atomic import atomic_write
from dyneval.tokens import TASK_TOKENS
from qwenvl.data import DatasetSource
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.lengths import measure
from qwenvl.data.packing import pack
from qwenvl.errors import TrainingInputError

if TYPE_CHECKING:
    from dyneval.processing import Processor


@dataclass(frozen=True, kw_only=True, slots=True)
class PackSummary:
    """What became of the samples."""

    samples: int
    too_long: int
    bad: int
    bins: int
    fill: float
    """Mean share of a bin that holds tokens."""


def write_packed(
    annotation: Path, data: Path, processor: Processor, output: Path, capacity: int, seed: int, workers: int
) -> PackSummary:
    """Pack the samples of `annotation` into bins; bad ones go to `<output>.rejects.jsonl`.

    Args:
        annotation: annotation file, JSON or JSONL.
        data: folder of its images.
        processor: counts tokens.
        output: packed annotation file.
        capacity: most tokens of a bin.
        seed: of the order in which samples are drawn.
        workers: processes that count.

    Raises:
        DataFileError: the annotation file is not JSON.
        TrainingInputError: no sample fits into a bin.
    """
    annotations = AnnotationFile(annotation)
    source = DatasetSource(name=annotation.stem, annotation=annotation, data=data, tasks=TASK_TOKENS)
    # The counts are not kept: the packed file is measured itself when it is trained on.
    with tempfile.TemporaryDirectory() as cache:
        measured = measure(annotations, source, processor, workers, Path(cache))
    fitting = [index for index, one in enumerate(measured) if 0 < one.tokens <= capacity]
    bad = [one.problem for one in measured if one.problem]
    if not fitting:
        raise TrainingInputError(f"{annotation}: no sample fits into {capacity} tokens ({len(bad)} bad)")
    bins = pack([measured[index].tokens for index in fitting], capacity, seed)
    with atomic_write(output) as file:
        for number, members in enumerate(bins):
            entry = json.dumps([annotations[fitting[index]] for index in members], ensure_ascii=False)
            file.write(("[\n" if number == 0 else ",\n") + entry)
        file.write("\n]\n")
    with atomic_write(output.with_name(f"{output.stem}.rejects.jsonl")) as file:
        file.writelines(json.dumps({"reason": problem}, ensure_ascii=False) + "\n" for problem in bad)
    tokens = sum(measured[index].tokens for index in fitting)
    return PackSummary(
        samples=len(fitting),
        too_long=len(measured) - len(fitting) - len(bad),
        bad=len(bad),
        bins=len(bins),
        fill=round(tokens / (len(bins) * capacity), 4),
    )
