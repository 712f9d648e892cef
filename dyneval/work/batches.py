"""How many items are done at once: batches grow while memory allows, and are halved when it has run out.

A batch that is too small leaves a GPU idle, and one that is too large ends the run. Images differ in size and replies
in length, so no fixed number fits; a run over a night must survive the one batch that does not fit.
"""

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

# How torch and CUDA say that memory has run out. Not all of it arrives as torch.OutOfMemoryError: cuBLAS and the CPU
# raise a plain RuntimeError.
_WORDS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator")


def batch_limit(text: str) -> BatchLimit:
    """Read a batch size from a flag: a whole number of 1 or more, or "auto". Raises SettingError."""
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text)):
        raise SettingError(f"expected a whole number of 1 or more, or auto, found {text!r}")
    return int(text)


def out_of_memory(error: RuntimeError) -> str | None:
    """The line of an error that says that memory has run out; None for any other error."""
    return next((line for line in str(error).splitlines() if any(words in line for words in _WORDS)), None)


@dataclass(frozen=True, slots=True)
class TooLarge(Generic[Item]):
    """A single item that does not fit into memory, and the line of the error that says so."""

    item: Item
    reason: str


def in_halves(
    work: Callable[[Sequence[Item]], Iterable[Result]], batch: Sequence[Item], failed: Callable[[int], None]
) -> Iterator[Result | TooLarge[Item]]:
    """Run `work` on a batch. If memory runs out, split the batch in two and try each half, down to single items.

    Args:
        work: what is done with a batch. Results that it yields before the memory runs out come again with the halves.
        batch: at least one item.
        failed: called with the size of every batch of several items that did not fit.

    Yields:
        The results, and a single item that does not fit as `TooLarge`.
    """
    try:
        yield from work(batch)
        return
    except RuntimeError as error:
        reason = out_of_memory(error)
        if reason is None:
            raise
    # Not in the handler: until it ends, the error's traceback holds the tensors of the batch.
    release_memory()
    if len(batch) == 1:
        yield TooLarge(batch[0], reason)
        return
    failed(len(batch))
    middle = len(batch) // 2
    yield from in_halves(work, batch[:middle], failed)
    yield from in_halves(work, batch[middle:], failed)


def release_memory() -> None:
    """Free what a failed batch has left allocated."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# On a CPU larger batches are hardly faster.
_CPU_SIZE = 8
# A server, or vLLM, makes its own batches of the requests that are there at the same time.
_SERVED_SIZE = 64
_FIRST_SIZE, _LARGEST_SIZE = 8, 256
# Share of the memory that an automatic batch is expected to take. Replies differ in length, so the next batch of the
# same size may need more than the last one.
_FILL = 0.85


class MemoryUse(NamedTuple):
    """Bytes on the device: allocated between batches, at the peak of the last batch, and available in all."""

    resting: int
    peak: int
    capacity: int


class BatchSize:
    """The size of the next batch: fixed, or "auto", which begins small and doubles while the memory should suffice."""

    def __init__(self, wanted: BatchLimit, measure: Callable[[], MemoryUse] | None) -> None:
        """`measure` returns the memory of the last batch; None where there is no such figure, as on a CPU."""
        self._measure = measure if wanted == "auto" else None
        self.size: int = wanted if wanted != "auto" else _FIRST_SIZE if measure else _CPU_SIZE
        """Pairs of the next batch."""
        self.most = _LARGEST_SIZE if self._measure else self.size
        """Batches never get larger than this."""

    def fitted(self, pairs: int) -> None:
        """Learn from a batch that fitted; a batch that was not full says nothing about larger ones."""
        if self._measure is None or pairs < self.size:
            return
        memory = self._measure()
        a_pair = max(1, memory.peak - memory.resting) / pairs
        fitting = int((_FILL * memory.capacity - memory.resting) / a_pair)
        # At most doubled, since the estimate rests on the pairs of one batch.
        self.size = max(self.size, min(2 * self.size, fitting, self.most))

    def failed(self, pairs: int) -> None:
        """Learn from a batch that did not fit: half of its size is the limit from then on."""
        self.most = self.size = max(1, pairs // 2)
        logger.warning("out of memory with %d pairs at a time; going on with %d", pairs, self.size)


def batch_size(wanted: BatchLimit, device: torch.device | None) -> BatchSize:
    """The batch size for a device.

    Args:
        wanted: items, at least 1, or "auto": 64 for an engine with batches of its own, 8 on a CPU, on a GPU what fits.
        device: where batches are computed; None: the engine makes its own batches.
    """
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
            # Free for this process: torch keeps what it has reserved and uses it again.
            torch.cuda.mem_get_info(device)[0] + reserved,
        )
        torch.cuda.reset_peak_memory_stats(device)
        return memory

    return BatchSize(wanted, measure)
