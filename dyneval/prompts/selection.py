"""Choose a given number of prompts that cover tiers and categories evenly and repeat each other little.

Drawn at random, rare categories hardly occur: of 40,000 prompts the rarest category has 238 instead of 1,025
(benchmarks/README.md). The choice is the same for a seed, whatever the input's order:

1. Prompts are put in a shuffled order (their ids, scrambled with the seed).
2. The crowding of a prompt is the number of earlier prompts with the same MinHash value, averaged over eight hash
   functions. Two prompts of Jaccard similarity s share a value with probability s, so crowding estimates, without
   bias and without comparing pairs, how much similarity a prompt has in sum to all those before it.
3. Each prompt belongs to the pool of its rarest category, so that rare categories do not drown in common ones.
4. The number asked for is spread evenly over the tiers, and within each over the pools; what a small one cannot give
   goes to the others. From every pool the least crowded prompts are taken; without "diversity", the first in order.

`gains` says what that was worth, beside as many prompts drawn at random.
"""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.prompts.minhash import UInt32s
from dyneval.prompts.text import Int64s, UInt64s, is_word, tokenise

Bools = npt.NDArray[np.bool_]
Balance = Literal["category", "tier", "diversity"]
BALANCES: tuple[Balance, ...] = ("category", "tier", "diversity")
FUNCTIONS = 8
"""Hash functions of a signature that the crowding is averaged over."""


def select(
    count: int,
    tiers: npt.NDArray[np.uint8],
    labels: UInt64s,
    signatures: UInt32s,
    keys: UInt64s,
    seed: int,
    balance: tuple[Balance, ...] = BALANCES,
) -> Bools:
    """(prompts,) True for the chosen ones, `count` of them, or all where there are not more.

    Args:
        count: How many to choose.
        tiers: (prompts,) tier of each.
        labels: (prompts,) label set of each, see `categories`.
        signatures: (prompts, functions) MinHash signatures.
        keys: (prompts,) distinct numbers made from the texts.
        seed: Of the shuffled order.
        balance: What to spread the number over.
    """
    order = np.argsort(_scramble(keys, seed), kind="stable")
    crowding = np.zeros(len(keys))
    if "diversity" in balance:
        counts = np.zeros(len(keys), np.int64)
        for column in signatures[:, :FUNCTIONS].T:
            # The value above, the place in the order below: one sort puts equal values side by side, the earliest
            # first.
            packed = (column[order].astype(np.uint64) << np.uint64(32)) | np.arange(len(order), dtype=np.uint64)
            packed.sort()
            values = packed >> np.uint64(32)
            begins = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])
            earlier = np.arange(len(values)) - np.repeat(begins, np.diff(np.append(begins, len(values))))
            counts[order[(packed & np.uint64(0xFFFFFFFF)).astype(np.int64)]] += earlier
        crowding = counts / max(1, min(FUNCTIONS, signatures.shape[1]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    groups = tiers.astype(np.int64) if "tier" in balance else np.zeros(len(keys), np.int64)
    pools = np.zeros(len(keys), np.int64)
    if "category" in balance:
        # The bit of each prompt's rarest label, -1 where it has none: the most frequent first, so that rarer ones
        # replace it.
        bits = [np.flatnonzero(labels & np.uint64(1 << bit)) for bit in range(64)]
        pools -= 1
        for bit in sorted(range(64), key=lambda bit: (-len(bits[bit]), bit)):
            pools[bits[bit]] = bit
    chosen = np.zeros(len(keys), bool)
    names, sizes = np.unique(groups, return_counts=True)
    for group, share in zip(names, even_shares(sizes, count), strict=True):
        inside = np.flatnonzero(groups == group)
        names, sizes = np.unique(pools[inside], return_counts=True)
        for pool, quota in zip(names, even_shares(sizes, int(share)), strict=True):
            members = inside[pools[inside] == pool]
            ranking = np.lexsort((place[members], crowding[members]))
            chosen[members[ranking[:quota]]] = True
    return chosen


class Spread(TypedDict):
    """How varied some prompts are."""

    distinct_words: int
    """Different words, in at most `_SAMPLE` of the prompts."""
    label_entropy: float
    """Of the sub-categories of all labels, in bits: 5.39 where all 42 are as frequent, less where few prevail."""
    nearest_distance: float
    """Mean Jaccard distance (0-1) from a prompt to the one most similar to it, as eight MinHash functions see it."""


def gains(
    prompts: pl.Series, labels: UInt64s, signatures: UInt32s, keys: UInt64s, chosen: Bools, seed: int
) -> dict[str, Spread]:
    """How varied the chosen prompts are, and as many drawn at random from all; arguments as of `select`."""
    drawn = np.zeros(len(chosen), bool)
    # Another seed than the selection's: the same order would draw the prompts that a selection without balance takes.
    drawn[np.argsort(_scramble(keys, seed + 1), kind="stable")[: int(chosen.sum())]] = True
    found = {}
    for name, mask in (("selected", chosen), ("random", drawn)):
        # Keys are hashes, so the lowest of them are a fair sample, and the same one whatever the input's order.
        among = np.flatnonzero(mask)[np.argsort(keys[mask], kind="stable")[:_SAMPLE]]
        tokens = tokenise(prompts[among])
        counts = np.array([np.count_nonzero(labels[mask] & np.uint64(1 << bit)) for bit in range(64)])
        shares = counts[counts > 0] / max(1, counts.sum())
        columns = np.ascontiguousarray(signatures[among, :FUNCTIONS].T)
        distances = []
        for place in range(min(_ASKED, len(among) if len(among) > 1 else 0)):
            alike = np.add.reduce([column == column[place] for column in columns], dtype=np.uint8)
            alike[place] = 0  # itself
            distances.append(1 - alike.max() / len(columns))
        found[name] = Spread(
            distinct_words=len(np.unique(tokens.hashes[is_word(tokens)])),
            label_entropy=round(float(-(shares * np.log2(shares)).sum()), 3),
            nearest_distance=round(float(np.mean(distances)), 4) if distances else 1.0,
        )
    return found


_SAMPLE, _ASKED = 50_000, 400
"""Prompts that are compared, and those of them whose nearest is looked for; all with all would take hours."""


def even_shares(sizes: Int64s, count: int) -> Int64s:
    """Spread `count` over groups of the given sizes: as evenly as can be, and no group more than it has."""
    shares = np.zeros_like(sizes)
    left = min(count, int(sizes.sum()))
    while left:
        wanting = np.flatnonzero(shares < sizes)
        each = left // len(wanting)
        if each == 0:  # fewer left than groups that could take one: the first ones do
            shares[wanting[:left]] += 1
            break
        more = np.minimum(each, sizes[wanting] - shares[wanting])
        shares[wanting] += more
        left -= int(more.sum())
    return shares


def _scramble(keys: UInt64s, seed: int) -> UInt64s:
    mixed = (keys ^ np.uint64(np.random.default_rng(seed).integers(0, 2**63))) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
