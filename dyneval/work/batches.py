"""How much is done at once: batches that grow while memory allows, and halves where it has run out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from dyneval.errors import SettingError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

BatchLimit = int | Literal["auto"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_WORDS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def batch_limit(text: str) -> BatchLimit:
    """A number of 1 or more, or "auto". Raises SettingError."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text)):
        raise SettingError(f"expected a whole number of 1 or more, or auto, found {text!r}")
    return int(text)


def out_of_memory(error: RuntimeError) -> str | None:
    """The line that says so where memory has run out (torch.OutOfMemoryError, and what libraries raise), else None."""
    return next((line for line in str(error).splitlines() if any(words in line for words in _WORDS)), None)


@dataclass(frozen=True, slots=True)
class TooLarge(Generic[Item]):
    """A single item that the memory is too small for, and the line that says so."""

    item: Item
    reason: str


def in_halves(
    work: Callable[[Sequence[Item]], Iterable[Result]], batch: Sequence[Item], failed: Callable[[int], None]
) -> Iterator[Result | TooLarge[Item]]:
    """Yield what `work` makes of a batch, or, where the memory is too small for it, of its halves.

    Args:
        work: what is done with a batch. What it yields before the memory runs out comes again with the halves.
        batch: at least one item.
        failed: told the size of every batch of several items that did not fit.
    """
    try:
        yield from work(batch)
        return
    except RuntimeError as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
    # Only here: until its handler ends, the error holds the batch's tensors.
    release_memory()
    if len(batch) == 1:
        yield TooLarge(batch[0], reason)
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


_CPU_SIZE = 8
"""On a CPU larger batches are hardly faster."""
_SERVED_SIZE = 64
"""A server, or vLLM, puts together what comes at once."""
_FIRST_SIZE, _LARGEST_SIZE = 8, 256
_FILL = 0.85
"""Share of the memory that an automatic batch may be expected to take; replies differ in length."""


class MemoryUse(NamedTuple):
    """Bytes on the device: what stays allocated between batches, the peak of the last batch, and all there is."""

    resting: int
    peak: int
    capacity: int


class BatchSize:
    """Fixed, or "auto": begins small and doubles as long as the memory of the batches so far says that it fits."""

    def __init__(self, wanted: BatchLimit, measure: Callable[[], MemoryUse] | None) -> None:
        """`measure` tells the memory of the last batch; None where there is no such figure (CPU)."""
        self._measure = measure if wanted == "auto" else None
        self.size: int = wanted if wanted != "auto" else _FIRST_SIZE if measure else _CPU_SIZE
        """Pairs of the next batch."""
        self.most = _LARGEST_SIZE if self._measure else self.size
        """More than this the batches will not get."""

    def fitted(self, pairs: int) -> None:
        """Learn from a batch that fitted; one that was not full says nothing about larger ones."""
        if self._measure is None or pairs < self.size:
            return
        memory = self._measure()
        a_pair = max(1, memory.peak - memory.resting) / pairs
        room = int((_FILL * memory.capacity - memory.resting) / a_pair)
        self.size = max(self.size, min(2 * self.size, room, self.most))

    def failed(self, pairs: int) -> None:
        """Learn from a batch that did not fit: half of it is the most from now on."""
        self.most = self.size = max(1, pairs // 2)
        logger.warning("out of memory with %d pairs at a time; going on with %d", pairs, self.size)


def batch_size(wanted: BatchLimit, device: torch.device | None) -> BatchSize:
    """The batch size on a device, or of an engine that makes its own batches (None)."""
    if device is None:
        return BatchSize(_SERVED_SIZE if wanted == "auto" else wanted, None)
    if device.type != "cuda":
        return BatchSize(wanted, None)

    import torch

    def measure() -> MemoryUse:
        reserved = torch.cuda.memory_reserved(device)
        memory = MemoryUse(
            torch.cuda.memory_allocated(device),
            torch.cuda.max_memory_allocated(device),
            torch.cuda.mem_get_info(device)[0] + reserved,
        )
        torch.cuda.reset_peak_memory_stats(device)
        return memory

    return BatchSize(wanted, measure)
