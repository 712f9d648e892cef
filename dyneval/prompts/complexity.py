"""The complexity H of a prompt: nine counted factors, their scales and weights, from `data/factors.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from dyneval.prompts.lexicon import Lexicon
from dyneval.prompts.text import Int64s
from dyneval.prompts.units import Units, row_sums

Floats = npt.NDArray[np.float64]
_FIELD_BITS = 16
_WORD_TAG = "word"


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """One factor: `reference` occurrences of entries with one of `tags` are worth 100 points; `weight` is its share."""

    name: str
    weight: float
    reference: float
    tags: tuple[str, ...]
    definition: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """All factors in their published order; a factor's value is at most `cap` points."""

    cap: float
    items: tuple[Factor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the factors, in order."""
        return tuple(factor.name for factor in self.items)


@cache
def load() -> Factors:
    """Read the packaged factor definitions."""
    data = tomllib.loads(files("dyneval.prompts").joinpath("data", "factors.toml").read_text("utf-8"))
    items = tuple(
        Factor(name=name, **{**values, "tags": tuple(values["tags"])}) for name, values in data["factors"].items()
    )
    return Factors(cap=data["cap"], items=items)


def values(units: Units, lexicon: Lexicon, factors: Factors) -> Floats:
    """(prompts, factors) value of each factor in points, from 0 to the cap."""
    counts = np.empty((len(units.ends), len(factors.items)), np.float64)
    listed = [number for number, factor in enumerate(factors.items) if _WORD_TAG not in factor.tags]
    for number, factor in enumerate(factors.items):
        if _WORD_TAG in factor.tags:
            counts[:, number] = units.words
    counts[:, listed] = _listed_counts(units, lexicon, [factors.items[number] for number in listed])
    references = np.array([factor.reference for factor in factors.items])
    return np.minimum(100.0 * counts / references, factors.cap)


def complexity(factor_values: Floats, factors: Factors) -> Floats:
    """(prompts,) H of each prompt: the weighted sum of its factor values, added in the factors' order."""
    total = np.zeros(len(factor_values))
    for column, factor in zip(factor_values.T, factors.items, strict=True):
        total += factor.weight * column
    return total


def _listed_counts(units: Units, lexicon: Lexicon, factors: list[Factor]) -> Int64s:
    """(prompts, factors) how many units of each prompt have one of each factor's tags.

    Four factors share one 64-bit sum, 16 bits each: one pass over the units instead of four. Where a prompt has so many
    units that a count might not fit (--max-chars allows it), each factor has a sum of its own.
    """
    longest = np.diff(units.ends, prepend=-1).max(initial=0)
    bits = _FIELD_BITS if longest < 1 << _FIELD_BITS else 64
    counts = np.empty((len(units.ends), len(factors)), np.int64)
    for begin in range(0, len(factors), 64 // bits):
        group = factors[begin : begin + 64 // bits]
        packed = np.zeros(len(lexicon.tagged), np.uint64)
        for field, factor in enumerate(group):
            packed |= lexicon.having(*factor.tags).astype(np.uint64) << np.uint64(bits * field)
        sums = row_sums(packed[units.entries], units.ends)
        for field in range(len(group)):
            counts[:, begin + field] = (sums >> (bits * field)) & ((1 << min(bits, 63)) - 1)
    return counts
