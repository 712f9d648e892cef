"""The complexity H of a prompt, and the tier that follows from it: 1 hard, 2 medium, 3 easy.

H is a weighted sum of nine factors. Each factor counts words with certain tags of the lexicon, scales the count to
points and cuts it at a cap; `data/factors.toml` holds tags, scales and weights. The weights and the thresholds of the
tiers are published, the scales are not: ours were set so that a third of real prompts falls into each tier. A change
of a scale or of a word list moves prompts between tiers, so compare `benchmarks/prompt_filter.py` before and after.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.errors import SettingError
from dyneval.prompts.lexicon import Lexicon
from dyneval.prompts.text import Int64s
from dyneval.prompts.units import Units, row_sums

Floats = npt.NDArray[np.float64]
Tiers = npt.NDArray[np.uint8]
TierMode = Literal["threshold", "rank"]
TAU_1, TAU_2 = 200.0, 100.0
"""Published thresholds: tier 1 from H = 200 on, tier 2 from H = 100 on, tier 3 below."""
NO_TIER = 0
"""What `tiers_by_rank` gives to prompts that the published script leaves out."""
_WORD_TAG = "word"
"""Stands in factors.toml for every word of the prompt, whatever its tags."""


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
    counts = np.zeros((len(units.ends), len(tables)), np.int64)
    # Four factors share one 64-bit sum, 16 bits each: one pass over the units instead of four. Where a prompt has so
    # many units that a count might not fit (--max-chars allows it), each factor has a sum of its own; otherwise
    # 65,536 colours would count as none and add one to the next factor.
    longest = np.diff(units.ends, prepend=-1).max(initial=0) * tables.max(initial=1)
    bits = 16 if longest < 1 << 16 else 64
    counted = np.flatnonzero(tables.any(axis=1)).tolist()
    for begin in range(0, len(counted), 64 // bits):
        group = counted[begin : begin + 64 // bits]
        packed = np.zeros(tables.shape[1], np.uint64)
        for field, row in enumerate(group):
            packed |= tables[row].astype(np.uint64) << np.uint64(bits * field)
        sums = row_sums(packed[units.entries], units.ends)
        for field, row in enumerate(group):
            # The mask of a whole field has 63 bits at most: numpy's sums are signed, and no count reaches the last bit.
            counts[:, row] = (sums >> (bits * field)) & ((1 << min(bits, 63)) - 1)
    by_word = [_WORD_TAG in factor.tags for factor in factors.items]
    references = np.array([factor.reference for factor in factors.items])
    return np.minimum(100.0 * np.where(by_word, units.words[:, None], counts) / references, factors.cap)


def complexity(factor_values: Floats, factors: FactorScales) -> Floats:
    """(prompts,) H of each prompt: the weighted sum of its factor values."""
    # One factor after the other, as the plain implementation of benchmarks/prompt_filter.py adds them, which this one
    # has to equal to the last bit; a matrix product adds in an order of its own.
    total = np.zeros(len(factor_values))
    for column, factor in zip(factor_values.T, factors.items, strict=True):
        total += factor.weight * column
    return total


def tiers_by_threshold(complexity: Floats, tau_1: float = TAU_1, tau_2: float = TAU_2) -> Tiers:
    """Tier of each prompt: 1 where H >= tau_1, 2 where tau_2 <= H < tau_1, 3 below.

    Raises:
        SettingError: tau_1 is not above tau_2.
    """
    if tau_1 <= tau_2:
        raise SettingError(f"tau_1 = {tau_1:g} has to be above tau_2 = {tau_2:g}")
    return np.where(complexity >= tau_1, 1, np.where(complexity >= tau_2, 2, 3)).astype(np.uint8)


def tiers_by_rank(complexity: Floats, order_keys: npt.NDArray[np.uint64]) -> Tiers:
    """Tiers as the public script cuts them, after ranking by falling H.

    Tier 1 is the upper half of the top third, tier 2 the middle third, tier 3 the lower half of the bottom third; the
    rest gets `NO_TIER`. `order_keys`, distinct per prompt, decide between equal H, whatever the input's order.
    """
    count = len(complexity)
    third = count // 3
    ranking = np.lexsort((order_keys, -complexity))
    tiers = np.full(count, NO_TIER, np.uint8)
    tiers[ranking[: third // 2]] = 1
    tiers[ranking[third : 2 * third]] = 2
    tiers[ranking[2 * third + (count - 2 * third) // 2 :]] = 3
    return tiers


def in_tier_order(prompts: pl.DataFrame, mode: TierMode, seed: int) -> pl.DataFrame:
    """Order prompts (columns tier, complexity, prompt_id) as they are written, tier by tier.

    With thresholds each tier is in the order of the ids. With ranks tiers 1 and 3 are in the order of falling H and
    tier 2 is shuffled with `seed`, as the public script has it.
    """
    if mode == "threshold":
        # Ids are hashes of the texts, so this is a shuffle that does not depend on the input's order: any first n lines
        # of a tier file are a fair sample of it.
        return prompts.sort("tier", "prompt_id")
    ranked = prompts.sort(["tier", "complexity", "prompt_id"], descending=[False, True, False])
    parts = ranked.partition_by("tier", maintain_order=True, as_dict=True)
    middle = parts.get((2,))
    if middle is not None:
        parts[(2,)] = middle.sample(fraction=1.0, shuffle=True, seed=seed)
    return pl.concat(parts.values()) if parts else ranked
