"""Prompts as units: each unit is a listed phrase, a listed word or mark, or a word of no list.

Scores and labels count units, not words, so that "hot dog" is food and no animal. A prompt is read from left to
right; where listed phrases begin, the longest is taken, and its words count only as that phrase. Without this step
every phrase would count once more for each of its words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dyneval.prompts.lexicon import (
    END,
    NUMBER,
    UNKNOWN_ED,
    UNKNOWN_ING,
    UNKNOWN_PLURAL,
    Int32s,
    Lexicon,
    step_keys,
)
from dyneval.prompts.text import Int64s, Tokens, is_word, tail


class Units(NamedTuple):
    """Units of a batch of prompts, in order.

    entries: (units,) lexicon entry, as int64: numpy looks arrays up three times faster with it than with int32; every
    prompt closes with END. ends: (prompts,) index of each prompt's END.
    words: (prompts,) words in each prompt, before phrases were joined.
    """

    entries: Int64s
    ends: Int64s
    words: Int64s


def find_units(tokens: Tokens, lexicon: Lexicon) -> Units:
    """Look every token up and join the phrases."""
    # Two tables instead of one: the listed words are few and most tokens are among them, so the first stays in the
    # cache.
    entries = lexicon.listed.find(tokens.hashes)
    left = np.flatnonzero(entries == 0)
    entries[left] = lexicon.others.find(tokens.hashes[left])
    unknown = entries == 0
    last = (tokens.tail & 255).astype(np.uint8)
    first_is_digit, last_is_digit = ((byte >= ord("0")) & (byte <= ord("9")) for byte in (tokens.first, last))
    for mark, shape in (
        (last == ord("s"), UNKNOWN_PLURAL),
        (tokens.tail == tail("ing"), UNKNOWN_ING),
        (last == ord("d"), UNKNOWN_ED),
        (first_is_digit & last_is_digit, NUMBER),
    ):
        entries[unknown & mark] = shape
    entries[tokens.ends] = END

    starts, lengths, phrases = _phrases(entries, lexicon)
    keep = np.ones(len(entries), bool)
    for offset in range(1, lexicon.trie.depth):
        keep[starts[lengths > offset] + offset] = False
    entries[starts] = phrases
    kept = entries[keep].astype(np.int64)
    return Units(kept, np.flatnonzero(kept == END), row_sums(is_word(tokens), tokens.ends))


def row_sums(values: npt.NDArray[np.generic], ends: Int64s) -> Int64s:
    """Sum of `values` over each prompt's units, its END included; ends as in `Units`."""
    if not len(ends):
        return np.zeros(0, np.int64)  # reduceat refuses an empty array
    return np.add.reduceat(values, np.concatenate(([0], ends[:-1] + 1)), dtype=np.int64)


def _phrases(entries: Int32s, lexicon: Lexicon) -> tuple[Int64s, Int64s, Int32s]:
    """Start, length in tokens and entry of the phrases that a scan from the left takes, the longest at each place."""
    trie = lexicon.trie
    places = np.flatnonzero(trie.roots[entries])
    nodes = trie.roots[entries[places]]
    lengths, phrases = np.zeros(len(places), np.int64), np.zeros(len(places), np.int32)
    alive = np.arange(len(places))
    for depth in range(1, trie.depth):
        # END stands at the end of every prompt and in no phrase, so `places + depth` cannot leave the prompt.
        nodes = trie.steps.find(step_keys(nodes, entries[places[alive] + depth]))
        alive, nodes = alive[nodes > 0], nodes[nodes > 0]
        complete = trie.phrase[nodes] > 0
        lengths[alive[complete]] = depth + 1
        phrases[alive[complete]] = trie.phrase[nodes[complete]]
    found = lengths > 0
    starts, lengths, phrases = places[found], lengths[found], phrases[found]
    # Drop every phrase that begins inside a kept one. A phrase that no earlier one reaches is surely kept, and so what
    # follows it and begins inside it is surely dropped; a round decides these, and few batches need a third.
    while len(starts) > 1:
        reach = np.maximum.accumulate(starts + lengths)
        inside = np.append(False, starts[1:] < reach[:-1])
        if not inside.any():
            break
        dropped = inside & ~np.append(True, inside[:-1])
        starts, lengths, phrases = starts[~dropped], lengths[~dropped], phrases[~dropped]
    return starts, lengths, phrases
