"""What is computed from the text of each prompt alone: one pass over its tokens, a chunk at a time on every core.

Prompts are cut into tokens once: ids, scores, labels and signatures are made from the same tokens here, so no stage
reads the text again. `describe` does it for a few prompts:

    from dyneval.prompts.analysis import describe

    [found] = describe(["two red foxes chase a smaller one past the Eiffel Tower, oil painting"])
    print(found.complexity, found.categories)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import polars as pl

from dyneval.prompts import categories, complexity, lexicon, minhash
from dyneval.prompts.clean import clean_text
from dyneval.prompts.complexity import Floats
from dyneval.prompts.minhash import Shingled
from dyneval.prompts.text import UInt64s, available_cores, in_other_script, tokenise
from dyneval.prompts.units import find_units
from dyneval.records import prompt_id

CHUNK = 16_384
"""Prompts a chunk: the arrays of one (about 3 MB of text) stay near the cache; larger ones were slower."""
Result = TypeVar("Result")
Progress = Callable[[int], object]


class Analysis(NamedTuple):
    """What is known of each prompt.

    ids: (prompts,) prompt_id. points: (prompts, 9) values of the complexity factors. labels: (prompts,) label sets of
    `categories`, empty where nobody asked for labels. shingled: None where nobody asked for signatures.
    """

    ids: pl.Series
    points: Floats
    labels: UInt64s
    shingled: Shingled | None


class Description(NamedTuple):
    """One prompt: its complexity H, the values of the nine factors in points, and its sub-categories."""

    complexity: float
    factors: dict[str, float]
    categories: list[str]


def analyse(prompts: pl.Series, seed: int | None, label: bool = True, done: Progress = lambda rows: None) -> Analysis:
    """Analyse clean prompts.

    Args:
        prompts: Clean prompts, one line each.
        seed: Of the MinHash functions; None leaves signatures out.
        label: Whether to assign categories.
        done: Told the rows of each finished chunk.
    """
    words, factors, rules = lexicon.load(), complexity.load(), categories.load()
    counted = complexity.tables(words, factors)

    def work(chunk: pl.Series) -> Analysis:
        tokens = tokenise(chunk)
        units = find_units(tokens, words)
        points = complexity.values(units, counted, factors)
        ids = pl.Series([prompt_id(prompt) for prompt in chunk], dtype=pl.String)
        labels = rules.label(units, words) if label else np.zeros(len(chunk), np.uint64)
        labels[in_other_script(chunk)] = 0  # marks and digits alone would tell something wrong
        return Analysis(ids, points, labels, None if seed is None else minhash.shingle(tokens, seed))

    # Results are written into arrays of the final size: joining chunks at the end would hold everything twice.
    points, labels = np.empty((len(prompts), len(factors.items))), np.empty(len(prompts), np.uint64)
    shingled = None if seed is None else minhash.Collector(len(prompts))
    row, ids = 0, [pl.Series([], dtype=pl.String)]
    for part in _in_chunks(prompts, work, done):
        end = row + len(part.labels)
        ids.append(part.ids)
        points[row:end], labels[row:end] = part.points, part.labels
        if shingled is not None and part.shingled is not None:
            shingled.add(part.shingled)
        row = end
    return Analysis(pl.concat(ids), points, labels, shingled.finish() if shingled else None)


def describe(prompts: Sequence[str]) -> list[Description]:
    """Complexity and categories of a few prompts, as Step 1 would write them; prompts are cleaned first."""
    cleaned = pl.DataFrame({"prompt": prompts}, schema={"prompt": pl.String}).select(clean_text(pl.col("prompt")))
    found, factors = analyse(cleaned["prompt"], None), complexity.load()
    names = categories.load().expand(found.labels)
    totals = complexity.complexity(found.points, factors)
    return [
        Description(float(total), dict(zip(factors.names, points.tolist(), strict=True)), list(labels))
        for total, points, labels in zip(totals, found.points, names, strict=True)
    ]


def shingles(prompts: pl.Series, seed: int) -> Shingled:
    """Shingle and sign clean prompts, with the hash functions of `seed`."""
    collector = minhash.Collector(len(prompts))
    for part in _in_chunks(prompts, lambda chunk: minhash.shingle(tokenise(chunk), seed)):
        collector.add(part)
    return collector.finish()


def _in_chunks(
    prompts: pl.Series, work: Callable[[pl.Series], Result], done: Progress = lambda rows: None
) -> Iterator[Result]:
    """Yield work(chunk) for the chunks of `prompts`, in order.

    Threads are enough: numpy and polars release the interpreter lock, and nothing is copied between processes.
    """
    chunks = [prompts[start : start + CHUNK] for start in range(0, len(prompts), CHUNK)]
    with ThreadPoolExecutor(available_cores()) as pool:
        for chunk, result in zip(chunks, pool.map(work, chunks), strict=True):
            done(len(chunk))
            yield result
