"""What is computed from the text of each prompt, a chunk at a time on every core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import polars as pl

from dyneval.prompts import complexity, lexicon
from dyneval.prompts.complexity import Floats
from dyneval.prompts.text import tokenise
from dyneval.prompts.units import find_units

CHUNK = 16_384
"""Prompts a chunk: the arrays of one (about 3 MB of text) stay near the cache; larger ones were slower."""
Result = TypeVar("Result")


def in_chunks(
    prompts: pl.Series, work: Callable[[pl.Series], Result], done: Callable[[int], object] = lambda rows: None
) -> Iterator[Result]:
    """Yield work(chunk) for the chunks of `prompts`, in order, on all cores; `done` is told the rows of each.

    Threads are enough: numpy and polars release the interpreter lock, and nothing is copied between processes.
    """
    chunks = [prompts[start : start + CHUNK] for start in range(0, len(prompts), CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
            done(len(chunk))
            yield result


def factor_values(prompts: pl.Series, done: Callable[[int], object] = lambda rows: None) -> Floats:
    """(prompts, 9) factor values in points of clean prompts; the columns are `complexity.load().names`."""
    words, factors = lexicon.load(), complexity.load()

    def work(chunk: pl.Series) -> Floats:
        return complexity.values(find_units(tokenise(chunk), words), words, factors)

    parts = list(in_chunks(prompts, work, done))
    return np.concatenate(parts) if parts else np.zeros((0, len(factors.items)))
