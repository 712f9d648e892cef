"""What is computed from the text of each prompt alone: one pass over its tokens, a chunk at a time on every core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from dyneval.prompts import complexity, lexicon, minhash
from dyneval.prompts.complexity import Floats
from dyneval.prompts.minhash import Shingled
from dyneval.prompts.text import tokenise
from dyneval.prompts.units import find_units

CHUNK = 16_384
"""Prompts a chunk: the arrays of one (about 3 MB of text) stay near the cache; larger ones were slower."""
Result = TypeVar("Result")
Progress = Callable[[int], object]


class Analysis(NamedTuple):
    """Per prompt: points (prompts, 9), the values of the complexity factors; shingled, None where nobody asked."""

    points: Floats
    shingled: Shingled | None


def analyse(prompts: pl.Series, seed: int | None, done: Progress = lambda rows: None) -> Analysis:
    """Analyse clean prompts; `done` is told the rows of each finished chunk.

    Args:
        prompts: Clean prompts, one line each.
        seed: Of the MinHash functions; None leaves signatures out.
        done: For a progress bar.
    """
    words, factors = lexicon.load(), complexity.load()

    def work(chunk: pl.Series) -> Analysis:
        tokens = tokenise(chunk)
        units = find_units(tokens, words)
        points = complexity.values(units, words, factors)
        return Analysis(points, None if seed is None else minhash.shingle(tokens, seed))

    parts = list(_in_chunks(prompts, work, done))
    points = np.concatenate([np.zeros((0, len(factors.items))), *(part.points for part in parts)])
    return Analysis(points, None if seed is None else minhash.concatenate([p.shingled for p in parts if p.shingled]))


def shingles(prompts: pl.Series, seed: int) -> Shingled:
    """Shingle and sign clean prompts, with the hash functions of `seed`."""
    return minhash.concatenate(list(_in_chunks(prompts, lambda chunk: minhash.shingle(tokenise(chunk), seed))))


def _in_chunks(
    prompts: pl.Series, work: Callable[[pl.Series], Result], done: Progress = lambda rows: None
) -> Iterator[Result]:
    """Yield work(chunk) for the chunks of `prompts`, in order.

    Threads are enough: numpy and polars release the interpreter lock, and nothing is copied between processes.
    """
    chunks = [prompts[start : start + CHUNK] for start in range(0, len(prompts), CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
            done(len(chunk))
            yield result
