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
class FactorScales:
    """All factors in their published order; a factor's value is at most `cap` points."""

    cap: float
    items: tuple[Factor, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the factors, in order."""
        return tuple(factor.name for factor in self.items)


@cache
def load() -> FactorScales:
    """Read the packaged factor definitions."""
    data = tomllib.loads(files("dyneval.prompts").joinpath("data", "factors.toml").read_text("utf-8"))
    items = tuple(
        Factor(name=name, **{**values, "tags": tuple(values["tags"])}) for name, values in data["factors"].items()
    )
    return FactorScales(cap=data["cap"], items=items)


def tables(lexicon: Lexicon, factors: FactorScales) -> Int64s:
    """(factors, entries) how often each entry counts for each factor; no entry counts for the length in words."""
    listed = [tuple(tag for tag in factor.tags if tag != _WORD_TAG) for factor in factors.items]
    none = np.zeros(len(lexicon.tagged), np.int64)
    return np.stack([lexicon.counts(*tags) if tags else none for tags in listed])


def values(units: Units, tables: Int64s, factors: FactorScales) -> Floats:
    """(prompts, factors) value of each factor in points, from 0 to the cap; tables as of `tables`."""
    by_word = [_WORD_TAG in factor.tags for factor in factors.items]
    counts = np.where(by_word, units.words[:, None], _listed_counts(units, tables))
    references = np.array([factor.reference for factor in factors.items])
    return np.minimum(100.0 * counts / references, factors.cap)


def complexity(factor_values: Floats, factors: FactorScales) -> Floats:
    """(prompts,) H of each prompt: the weighted sum of its factor values, added in the factors' order."""
    total = np.zeros(len(factor_values))
    for column, factor in zip(factor_values.T, factors.items, strict=True):
        total += factor.weight * column
    return total


def _listed_counts(units: Units, tables: Int64s) -> Int64s:
    """(prompts, factors) how often each prompt's units count for each factor.

    Four factors share one 64-bit sum, 16 bits each: one pass over the units instead of four. Where a prompt has so many
    units that a count might not fit (--max-chars allows it), each factor has a sum of its own.
    """
    longest = np.diff(units.ends, prepend=-1).max(initial=0) * tables.max(initial=1)
    bits = _FIELD_BITS if longest < 1 << _FIELD_BITS else 64
    counts = np.zeros((len(units.ends), len(tables)), np.int64)
    counted = np.flatnonzero(tables.any(axis=1)).tolist()
    for begin in range(0, len(counted), 64 // bits):
        group = counted[begin : begin + 64 // bits]
        packed = np.zeros(tables.shape[1], np.uint64)
        for field, row in enumerate(group):
            packed |= tables[row].astype(np.uint64) << np.uint64(bits * field)
        sums = row_sums(packed[units.entries], units.ends)
        for field, row in enumerate(group):
            counts[:, row] = (sums >> (bits * field)) & ((1 << min(bits, 63)) - 1)
    return counts
