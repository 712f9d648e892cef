"""Memory that has run out, of a device or of the CPU's allocator."""

from __future__ import annotations

import gc

_WORDS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def out_of_memory(error: RuntimeError) -> str | None:
    """The line that says so where memory has run out (torch.OutOfMemoryError, and what libraries raise), else None."""
    return next((line for line in str(error).splitlines() if any(words in line for words in _WORDS)), None)


def release_memory() -> None:
    """Give back what a failed batch left allocated."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
