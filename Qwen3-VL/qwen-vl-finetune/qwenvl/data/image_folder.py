"""Checks that a dataset's image folder is the one that its image paths are relative to.

It is easily named one level too deep. Then every image is missing, and without this check a run would find that out one
sample after another.
"""

from __future__ import annotations

from collections.abc import Iterator

from dyneval.files.image_root import folder_above
from qwenvl.data import DatasetSource
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import parse_sample
from qwenvl.data.lengths import entry_samples
from qwenvl.errors import TrainingInputError

_LOOKED_AT = 1000
"""Entries that are searched for an image; T2IA samples have none."""


def check_image_folder(source: DatasetSource, annotations: AnnotationFile) -> None:
    """Check the first image of a dataset.

    Image paths such as `IMAGES/1.png` are relative to the folder that holds `IMAGES`. Other reasons for a missing image
    are found, image by image, where it is read.

    Raises:
        TrainingInputError: the first image is not in the folder but in one above it, which the message names.
    """
    name = next(image_names(annotations), None)
    if name is None or (source.data / name).is_file():
        return
    right = folder_above(source.data, name)
    if right is not None:
        raise TrainingInputError(
            f"{source.variable}: {source.data} is too deep: image paths in {source.annotation} are such as "
            f"{name}, so set {source.variable} to {right}"
        )


def image_names(annotations: AnnotationFile) -> Iterator[str]:
    """Yield the image paths of the first entries, in order."""
    for index in range(min(len(annotations), _LOOKED_AT)):
        for sample in entry_samples(annotations[index]):
            try:
                yield from parse_sample(sample).images
            except (TrainingInputError, ValueError):
                continue  # told, with all that is bad, where the samples are measured
