"""Makes chunks in several processes and yields them in order.

The samples of a build, 2 GB for 250,000 pairs, travel in shared memory: through the pipe of a process pool they would
be copied five times, which took a tenth of the time of a build. `dyneval.work.executors` says why this is not one of
the executors.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor

from dyneval.instruct.chunks import Chunk, ChunkWorker, Line
from dyneval.work import processes

SLOT = 1 << 24
"""Bytes of shared memory for the samples of a chunk; pages are taken as they are filled. A larger chunk is piped."""

# Forked processes find it here: passed as an argument, the index would be pickled for every batch.
_inherited: tuple[ChunkWorker, list[mmap.mmap]]


def in_parallel(
    workers: int, worker: ChunkWorker, batches: Iterable[Sequence[Line]]
) -> Iterator[tuple[Sequence[Line], Chunk]]:
    """Yield each batch with its chunk, in order. The samples of a chunk are valid until the next one is asked for.

    The processes are forked, so they share the index of the annotations that this process has read.
    """
    global _inherited
    # One batch at work and one waiting for each process, and the chunk that the caller is reading.
    slots = [mmap.mmap(-1, SLOT) for _ in range(2 * workers + 1)]
    _inherited = worker, slots
    free = deque(range(len(slots)))
    waiting: deque[tuple[Sequence[Line], int, Future[tuple[Chunk, int]]]] = deque()

    def first() -> Iterator[tuple[Sequence[Line], Chunk]]:
        batch, slot, future = waiting.popleft()
        chunk, size = future.result()
        if size:
            chunk.samples = memoryview(slots[slot])[:size]
        yield batch, chunk
        free.append(slot)

    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, context, processes.end_with_parent, (os.getpid(),)) as pool:
        for batch in batches:
            slot = free.popleft()
            waiting.append((batch, slot, pool.submit(_work, batch, slot)))
            if not free:
                yield from first()
        while waiting:
            yield from first()


def _work(batch: Sequence[Line], slot: int) -> tuple[Chunk, int]:
    """A chunk, and the size of its samples if they lie in the slot instead of in it."""
    worker, slots = _inherited
    chunk = worker.work(batch)
    size = len(chunk.samples)
    if size > SLOT:
        return chunk, 0
    memoryview(slots[slot])[:size] = chunk.samples
    chunk.samples = bytearray()
    return chunk, size
