"""Decodes every image of an annotation file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dyneval.errors import ImageError
from dyneval.files.images import load_image
from dyneval.work.processes import forked_pool
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import parse_sample
from qwenvl.data.lengths import describe, entry_samples
from qwenvl.errors import TrainingInputError


def find_unreadable(annotation: Path, data: Path, workers: int) -> tuple[int, list[str]]:
    """Number of entries, and one line for each that cannot be read, in order. Raises DataFileError."""
    annotations = AnnotationFile(annotation)
    one = partial(_problem, annotations=annotations, data=data)
    with forked_pool(max(1, workers)) as pool:
        found = list(pool.imap(one, range(len(annotations)), chunksize=16))
    return len(annotations), [problem for problem in found if problem]


def _problem(index: int, annotations: AnnotationFile, data: Path) -> str:
    entry = annotations[index]
    try:
        for sample in entry_samples(entry):
            for name in parse_sample(sample).images:
                load_image(name, root=data)
    except (TrainingInputError, ImageError, ValueError) as error:
        return f"{describe(entry, index, annotations.path)}: {error}"
    return ""
