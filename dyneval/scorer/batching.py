"""Which pairs are scored together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from dyneval.loaded_pairs import Pair

Numbered = tuple[int, Pair]
"""A pair and its place in the order in which pairs came."""

_WINDOW_BATCHES = 8
_WINDOW_PIXELS = 1 << 28
"""Open images of a window take three bytes a pixel: 0.8 GB."""


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
