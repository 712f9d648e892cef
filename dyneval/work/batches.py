"""Memory that has run out, of a device or of the CPU's allocator."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORDS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def out_of_memory(error: RuntimeError) -> str | None:
    """The line that says so where memory has run out (torch.OutOfMemoryError, and what libraries raise), else None."""
    return next((line for line in str(error).splitlines() if any(words in line for words in _WORDS)), None)


def in_halves(
    work: Callable[[Sequence[Item]], Sequence[Result]], batch: Sequence[Item], failed: Callable[[int], None]
) -> Iterator[tuple[Sequence[Item], Sequence[Result] | str]]:
    """Yield a batch with its results, or, where the memory is too small for it, its halves with theirs.

    Args:
        work: what is done with a batch; one result an item.
        batch: at least one item.
        failed: told the size of every batch of several items that did not fit.

    A single item that does not fit comes with the reason in place of results.
    """
    try:
        results = work(batch)
    except RuntimeError as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
    else:
        yield batch, results
        return
    # Only here: until its handler ends, the error holds the batch's tensors.
    release_memory()
    if len(batch) == 1:
        yield batch, reason
        return
    failed(len(batch))
    middle = len(batch) // 2
    yield from in_halves(work, batch[:middle], failed)
    yield from in_halves(work, batch[middle:], failed)


def release_memory() -> None:
    """Give back what a failed batch left allocated."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
