"""Counts the tokens of all samples before training, in parallel, and keeps the counts for the next run.

Lengths decide which samples fit, how they are packed, and whether the largest batch fits into memory. Only the header
of an image is read, not its pixels. A count that differs from what `Processor.encode` makes of the sample would let a
sequence grow over `--model_max_length`.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dyneval.errors import ImageError
from dyneval.files.atomic import atomic_write
from dyneval.files.images import check_size, resolve_below, stored_size
from dyneval.work.processes import end_with_parent
from qwenvl.data import DatasetSource
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import Conversation, judge
from qwenvl.errors import TrainingInputError

if TYPE_CHECKING:
    from dyneval.processing import Processor

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

_SERIAL_LIMIT = 2000
"""Up to this many entries are measured without a pool of processes, which costs more than it saves (1 ms an entry)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Length of one annotation entry, or why it has none."""

    tokens: int
    """Number of tokens of the whole entry; 0 when it is bad."""
    problem: str = ""


def entry_samples(entry: Any) -> list[Any]:
    """Return the samples of an annotation entry: itself, or those of a pack that `tools/pack_data.py` made."""
    return entry if isinstance(entry, list) else [entry]


def describe(entry: Any, index: int, annotation: Path) -> str:
    """Return how messages name an annotation entry: file, number and, where it has one, id."""
    samples = entry_samples(entry)
    name = samples[0].get("id") if samples and isinstance(samples[0], dict) else None
    return f"{annotation}, sample {index}" + (f" ({name})" if name else "")


def count_tokens(conversation: Conversation, root: Path, processor: Processor) -> int:
    """Return the number of tokens of a sample; no more of an image is read than its header.

    Args:
        conversation: the sample.
        root: folder that its image paths are relative to.
        processor: with the pixel limits of the run, on which the visual tokens depend.

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
    """Measure every entry of a dataset, or read what an earlier call has left in `cache`.

    Args:
        annotations: the entries.
        source: their dataset.
        processor: counts tokens.
        workers: processes.
        cache: folder of the counts.

    Returns:
        One for each entry. Bad entries are measured each time, since their files may have been mended.
    """
    # All that a count depends on, apart from the images themselves.
    status = source.annotation.stat()
    parts = [source.annotation.resolve(), status.st_size, status.st_mtime_ns, source.data.resolve(), processor.cell]
    parts += [source.tasks, processor.min_pixels, processor.max_pixels, len(processor.tokenizer)]
    key = hashlib.sha256(repr([*parts, os.fspath(source.data)]).encode()).hexdigest()[:16]
    path = cache / f"lengths-{key}.npy"
    one = partial(_measure_entry, annotations=annotations, source=source, processor=processor)
    if path.is_file():
        tokens = np.load(path)
        logger.info("token counts of %s: from %s", annotations.path, path)
        bad = [int(index) for index in np.flatnonzero(tokens == 0)]
        again = dict(zip(bad, in_processes(one, bad, workers), strict=True))
        return [again.get(index) or Measured(int(count)) for index, count in enumerate(tokens)]
    logger.info("counting the tokens of %d entries of %s", len(annotations), annotations.path)
    measured = list(in_processes(one, range(len(annotations)), workers))
    with atomic_write(path, "wb") as file:
        np.save(file, np.array([entry.tokens for entry in measured], dtype=np.int32))
    return measured


def in_processes(
    one: Callable[[int], Result], indices: Sequence[int], workers: int, serial: int = _SERIAL_LIMIT
) -> Iterator[Result]:
    """Yield what a function returns for each index, in order.

    Args:
        one: called in a forked process, whose memory it shares; what it returns is pickled.
        indices: its arguments.
        workers: processes; with fewer than two it is called in this one.
        serial: with fewer indices than this, too.
    """
    if workers < 2 or len(indices) < serial:
        yield from map(one, indices)
        return
    # Forked, so that the processes share the map of the annotation file and the tokenizer.
    with multiprocessing.get_context("fork").Pool(workers, end_with_parent, (os.getpid(),)) as pool:
        # Eight chunks of the smallest input, so that several processes have something to do.
        yield from pool.imap(one, indices, chunksize=min(256, max(1, serial // 8)))


def _measure_entry(index: int, annotations: AnnotationFile, source: DatasetSource, processor: Processor) -> Measured:
    entry = annotations[index]
    try:
        conversations = [judge(sample, source.tasks) for sample in entry_samples(entry)]
        return Measured(sum(count_tokens(one, source.data, processor) for one in conversations))
    except (TrainingInputError, ImageError, ValueError) as error:
        return Measured(0, f"{describe(entry, index, annotations.path)}: {error}")
