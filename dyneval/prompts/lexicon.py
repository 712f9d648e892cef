"""The word lists as arrays: a hash table of known tokens, a trie of phrases, and the tags of every entry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.prompts import wordlists
from dyneval.prompts.text import Int64s, UInt64s, tokenise

_DIGITS = frozenset({"number"})
"""Tags of digits that are in the lexicon only as parts of phrases such as "8 k"."""
Int32s = npt.NDArray[np.int32]

UNKNOWN, END, NUMBER, UNKNOWN_PLURAL, UNKNOWN_ING, UNKNOWN_ED = range(6)
SHAPES = ("unknown", "end", "number", "unknown_plural", "unknown_ing", "unknown_ed")
"""Tags of the entries that stand for what is in no list, told apart by shape: digits, a last s, -ing or a last d."""


_NO_STEPS = (np.zeros(0, np.int64), np.zeros(0, np.int64))


class HashTable(NamedTuple):
    """Open addressing with linear probing, looked up for whole arrays at once; value 0 means absent."""

    keys: UInt64s
    values: Int32s

    @classmethod
    def build(cls, keys: UInt64s, values: Int32s) -> HashTable:
        """Store `values` (all positive) under distinct `keys`; at least seven of eight slots stay free."""
        size = 1 << (8 * len(keys)).bit_length()
        table = cls(np.zeros(size, np.uint64), np.zeros(size, np.int32))
        for key, value in zip(keys.tolist(), values.tolist(), strict=True):
            slot = (key >> 20) & (size - 1)
            while table.values[slot]:
                slot = (slot + 1) & (size - 1)
            table.keys[slot], table.values[slot] = key, value
        return table

    def find(self, keys: UInt64s) -> Int32s:
        """Value of every key, 0 where there is none."""
        mask = len(self.keys) - 1
        slots = (keys >> np.uint64(20)).astype(np.int64) & mask
        found = self.values[slots]
        wrong = np.flatnonzero((found != 0) & (self.keys[slots] != keys))
        while len(wrong):
            slots[wrong] = (slots[wrong] + 1) & mask
            found[wrong] = self.values[slots[wrong]]
            wrong = wrong[(found[wrong] != 0) & (self.keys[slots[wrong]] != keys[wrong])]
        return found


class Trie(NamedTuple):
    """Phrases by their words. Node 0 means none; `steps` maps (node << 32 | entry) to the next node."""

    roots: Int32s
    steps: HashTable
    phrase: Int32s
    depth: int


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Entries 0-5 are `SHAPES`, then single words and marks, then phrases.

    words: token hash -> entry. tagged: (entries, tags) bool. names: the words of every entry, for people.
    """

    tags: tuple[str, ...]
    words: HashTable
    trie: Trie
    tagged: npt.NDArray[np.bool_]
    names: tuple[str, ...]

    def having(self, *tags: str) -> npt.NDArray[np.bool_]:
        """(entries,) True where the entry has one of `tags`. Raises ValueError on a tag that no list defines."""
        unknown = set(tags) - set(self.tags)
        if unknown:
            raise ValueError(f"no word list defines the tag(s) {', '.join(sorted(unknown))}")
        return np.logical_or.reduce(self.tagged[:, [self.tags.index(tag) for tag in tags]], axis=1)


@cache
def load() -> Lexicon:
    """Build the lexicon from the packaged word lists, once a process."""
    return build(wordlists.load())


def build(entries: dict[wordlists.Words, frozenset[str]]) -> Lexicon:
    """Build a lexicon from entries (their words) and the tags of each."""
    phrases = [words for words in entries if len(words) > 1]
    parts = {word for words in entries for word in words}
    singles = sorted(parts)
    names = (*SHAPES, *singles, *(" ".join(words) for words in phrases))
    index = {word: number for number, word in enumerate(singles, len(SHAPES))}
    hashes = tokenise(pl.Series(singles, dtype=pl.String)).hashes[::2]
    words = HashTable.build(hashes, np.arange(len(SHAPES), len(SHAPES) + len(singles), dtype=np.int32))
    single_tags = [entries.get((word,), _DIGITS if word.isdigit() else frozenset()) for word in singles]
    tagged, tags = _tagged(single_tags, [entries[phrase] for phrase in phrases])
    trie = _trie([[index[word] for word in phrase] for phrase in phrases], len(SHAPES) + len(singles))
    return Lexicon(tags, words, trie, tagged, names)


def _tagged(*groups: Iterable[frozenset[str]]) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    rows = [*(frozenset({shape}) for shape in SHAPES), *(tags for group in groups for tags in group)]
    tags = tuple(sorted({tag for row in rows for tag in row}))
    return np.array([[tag in row for tag in tags] for row in rows], bool), tags


def _trie(phrases: list[list[int]], first_phrase: int) -> Trie:
    nodes: dict[tuple[int, int], int] = {}
    endings: dict[int, int] = {}
    for number, phrase in enumerate(phrases, first_phrase):
        node = 0
        for entry in phrase:
            node = nodes.setdefault((node, entry), len(nodes) + 1)
        endings[node] = number
    parents, entries = (np.array(column, np.int64) for column in zip(*nodes, strict=True)) if nodes else _NO_STEPS
    children = np.arange(1, len(nodes) + 1, dtype=np.int32)
    first = parents == 0
    roots = np.zeros(first_phrase, np.int32)
    roots[entries[first]] = children[first]
    phrase_of = np.zeros(len(nodes) + 1, np.int32)
    phrase_of[list(endings)] = list(endings.values())
    steps = HashTable.build(step_keys(parents[~first], entries[~first]), children[~first])
    return Trie(roots, steps, phrase_of, max((len(phrase) for phrase in phrases), default=1))


def step_keys(nodes: Int64s | Int32s, entries: Int64s | Int32s) -> UInt64s:
    """Keys of the trie steps from `nodes` over `entries`, mixed so that the hash table spreads them."""
    key = (nodes.astype(np.uint64) << np.uint64(32)) | entries.astype(np.uint64)
    return key * np.uint64(0x9E3779B97F4A7C15)
