"""How many pairs are scored together, and which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import torch

from dyneval.loaded_pairs import Pair
from dyneval.scorer.settings import BatchLimit

logger = logging.getLogger(__name__)

Numbered = tuple[int, Pair]
"""A pair and its place in the order in which pairs came."""

_CPU_SIZE = 8
"""On a CPU larger batches are hardly faster."""
_SERVED_SIZE = 64
"""A server, or vLLM, puts together what comes at once."""
_FIRST_SIZE, _LARGEST_SIZE = 8, 256
_FILL = 0.85
"""Share of the memory that an automatic batch may be expected to take; replies differ in length."""
_WINDOW_BATCHES = 8
_WINDOW_PIXELS = 1 << 28
"""Open images of a window take three bytes a pixel: 0.8 GB."""


class Memory(NamedTuple):
    """Bytes on the device: what stays allocated between batches, the peak of the last batch, and all there is."""

    resting: int
    peak: int
    capacity: int


class BatchSize:
    """Fixed, or "auto": begins small and doubles as long as the memory of the batches so far says that it fits."""

    def __init__(self, wanted: BatchLimit, measure: Callable[[], Memory] | None) -> None:
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

    def measure() -> Memory:
        reserved = torch.cuda.memory_reserved(device)
        memory = Memory(
            torch.cuda.memory_allocated(device),
            torch.cuda.max_memory_allocated(device),
            torch.cuda.mem_get_info(device)[0] + reserved,
        )
        torch.cuda.reset_peak_memory_stats(device)
        return memory

    return BatchSize(wanted, measure)


def batches(pairs: Iterable[Pair], size: Callable[[], int], length: Callable[[Pair], int]) -> Iterator[list[Numbered]]:
    """Pairs of like length together, the longest of a window first: short replies then wait for few long ones.

    Args:
        pairs: any number; a window of them is held at a time.
        size: pairs of the next batch.
        length: expected tokens of a pair.
    """
    rest = iter(enumerate(pairs))
    for first in rest:
        window = list(_window(chain([first], rest), _WINDOW_BATCHES * size()))
        window.sort(key=lambda numbered: -length(numbered[1]))
        while window:
            count = size()
            yield window[:count]
            del window[:count]


def _window(pairs: Iterator[Numbered], most: int) -> Iterator[Numbered]:
    pixels = 0
    for count, numbered in enumerate(pairs, 1):
        image = numbered[1].image
        pixels += image.width * image.height
        yield numbered
        if count >= most or pixels >= _WINDOW_PIXELS:
            return
