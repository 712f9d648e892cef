"""What is computed from the text of each prompt alone: one pass over its tokens, a chunk at a time on every core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from dyneval.prompts import categories, complexity, lexicon, minhash
from dyneval.prompts.complexity import Floats
from dyneval.prompts.minhash import Shingled
from dyneval.prompts.text import UInt64s, tokenise
from dyneval.prompts.units import find_units

CHUNK = 16_384
"""Prompts a chunk: the arrays of one (about 3 MB of text) stay near the cache; larger ones were slower."""
Result = TypeVar("Result")
Progress = Callable[[int], object]


class Analysis(NamedTuple):
    """What is known of each prompt.

    points: (prompts, 9) values of the complexity factors. labels: (prompts,) label sets of `categories`, empty where
    nobody asked for labels. shingled: None where nobody asked for signatures.
    """

    points: Floats
    labels: UInt64s
    shingled: Shingled | None


def analyse(prompts: pl.Series, seed: int | None, label: bool = True, done: Progress = lambda rows: None) -> Analysis:
    """Analyse clean prompts.

    Args:
        prompts: Clean prompts, one line each.
        seed: Of the MinHash functions; None leaves signatures out.
        label: Whether to assign categories.
        done: Told the rows of each finished chunk.
    """
    words, factors, rules = lexicon.load(), complexity.load(), categories.load()

    def work(chunk: pl.Series) -> Analysis:
        tokens = tokenise(chunk)
        units = find_units(tokens, words)
        points = complexity.values(units, words, factors)
        labels = rules.label(units, words) if label else np.zeros(len(chunk), np.uint64)
        return Analysis(points, labels, None if seed is None else minhash.shingle(tokens, seed))

    parts = list(_in_chunks(prompts, work, done))
    points = np.concatenate([np.zeros((0, len(factors.items))), *(part.points for part in parts)])
    labels = np.concatenate([np.zeros(0, np.uint64), *(part.labels for part in parts)])
    shingled = None if seed is None else minhash.concatenate([part.shingled for part in parts if part.shingled])
    return Analysis(points, labels, shingled)


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
