"""Token counts of all samples before training: from image headers and the tokenizer, in parallel, cached."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dyneval.errors import ImageError
from dyneval.files.atomic import atomic_write
from dyneval.files.images import check_size, resolve_below, stored_size
from dyneval.work.processes import forked_pool
from qwenvl.data import DatasetSource
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import Conversation, judge
from qwenvl.errors import TrainingInputError

if TYPE_CHECKING:
    from dyneval.processing import Processor

logger = logging.getLogger(__name__)

_SERIAL_LIMIT = 2000
"""Below this many entries a pool of processes costs more than it saves (1 ms an entry)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Length of one annotation entry, or why it has none."""

    tokens: int
    """Number of tokens of the whole entry; 0 when it is bad."""
    problem: str = ""


def entry_samples(entry: Any) -> list[Any]:
    """The samples of an annotation entry: itself, or those of a pack that `tools/pack_data.py` made."""
    return entry if isinstance(entry, list) else [entry]


def describe(entry: Any, index: int, annotation: Path) -> str:
    """How messages name an annotation entry: file, number and, where it has one, id."""
    samples = entry_samples(entry)
    name = samples[0].get("id") if samples and isinstance(samples[0], dict) else None
    return f"{annotation}, sample {index}" + (f" ({name})" if name else "")


def count_tokens(conversation: Conversation, root: Path, processor: Processor) -> int:
    """Number of tokens of a sample; reads no more of an image than its header.

    Raises:
        ImageError, ValueError: the sample cannot be trained on.
    """
    visual = []
    for name in conversation.images:
        # As stored: a picture on its side takes as many tokens as an upright one.
        width, height = stored_size(resolve_below(root, name))
        check_size(width, height, name)
        visual.append(processor.visual_tokens(width, height))
    return len(processor.layout(conversation.turns, visual)[0])


def measure(
    annotations: AnnotationFile, source: DatasetSource, processor: Processor, workers: int, cache: Path
) -> list[Measured]:
    """Measure every entry of a dataset; the result is kept in the folder `cache` and found there again.

    Problems are measured anew each time, since their files may have been mended.
    """
    path = cache / f"lengths-{_key(source, processor)}.npy"
    if path.is_file():
        tokens = np.load(path)
        logger.info("token counts of %s: from %s", annotations.path, path)
        bad = [int(index) for index in np.flatnonzero(tokens == 0)]
        again = dict(zip(bad, _measure_all(annotations, bad, source, processor, workers), strict=True))
        return [again.get(index) or Measured(int(count)) for index, count in enumerate(tokens)]
    logger.info("counting the tokens of %d entries of %s", len(annotations), annotations.path)
    measured = list(_measure_all(annotations, range(len(annotations)), source, processor, workers))
    with atomic_write(path, "wb") as file:
        np.save(file, np.array([entry.tokens for entry in measured], dtype=np.int32))
    return measured


def _measure_all(
    annotations: AnnotationFile, indices: Any, source: DatasetSource, processor: Processor, workers: int
) -> Iterator[Measured]:
    one = partial(_measure_entry, annotations=annotations, source=source, processor=processor)
    if workers < 2 or len(indices) < _SERIAL_LIMIT:
        yield from map(one, indices)
        return
    with forked_pool(workers) as pool:
        yield from pool.imap(one, indices, chunksize=256)


def _measure_entry(index: int, annotations: AnnotationFile, source: DatasetSource, processor: Processor) -> Measured:
    entry = annotations[index]
    try:
        conversations = [judge(sample, source.tasks) for sample in entry_samples(entry)]
        return Measured(sum(count_tokens(one, source.data, processor) for one in conversations))
    except (TrainingInputError, ImageError, ValueError) as error:
        return Measured(0, f"{describe(entry, index, annotations.path)}: {error}")


def _key(source: DatasetSource, processor: Processor) -> str:
    """Everything that a token count depends on, apart from the images themselves."""
    annotation, root = source.annotation, source.data
    status = annotation.stat()
    parts = [annotation.resolve(), status.st_size, status.st_mtime_ns, root.resolve(), processor.cell, source.tasks]
    parts += [processor.min_pixels, processor.max_pixels, len(processor.tokenizer), os.fspath(root)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
