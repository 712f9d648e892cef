"""The word lists as arrays: a hash table of known tokens, a trie of phrases, and the tags of every entry.

Dictionaries of Python would look up one word at a time; these tables take all tokens of 16,384 prompts at once. They
are built from the text files once a process, in about a second, so that a list can be edited without a build step.
`units` looks prompts up, `complexity` and `categories` ask which entries have which tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from dyneval.prompts import wordlists, wordnet
from dyneval.prompts.text import Int64s, UInt64s, tokenise
from dyneval.prompts.wordnet import Tags

Int32s = npt.NDArray[np.int32]

UNKNOWN, END, NUMBER, UNKNOWN_PLURAL, UNKNOWN_ING, UNKNOWN_ED = range(6)
SHAPES = ("unknown", "end", "number", "unknown_plural", "unknown_ing", "unknown_ed")
"""Tags of the entries that stand for what is in no list, told apart by shape: digits, a last s, -ing or a last d."""

_PART: Tags = frozenset({"part"})
"""Tags of words that are in the lexicon only as parts of phrases."""
_DIGITS: Tags = frozenset({"number"})
"""The same of digits, in phrases such as "8 k"."""
_COLORED: Tags = frozenset({"colored"})
"""The tag of phrases that begin with a colour: a brown bear is brown."""


class HashTable(NamedTuple):
    """Open addressing with linear probing, looked up for whole arrays at once; value 0 means absent."""

    keys: UInt64s
    values: Int32s

    @classmethod
    def build(cls, keys: UInt64s, values: Int32s, per_entry: int = 8) -> HashTable:
        """Store `values` under `keys`.

        Args:
            keys: (entries,) distinct hashes.
            values: (entries,) positive numbers; 0 stands for what is absent.
            per_entry: Slots that the table has for each entry, at least; more mean fewer probes and a larger table.
        """
        size = 1 << (per_entry * len(keys)).bit_length()  # a power of two: a mask of the key gives the slot
        table = cls(np.zeros(size, np.uint64), np.zeros(size, np.int32))
        slots = (keys >> np.uint64(20)).astype(np.int64) & (size - 1)
        left = np.arange(len(keys))
        while len(left):  # the first key that wants a free slot gets it, the others try the next
            first = left[np.unique(slots[left], return_index=True)[1]]
            first = first[table.values[slots[first]] == 0]
            table.keys[slots[first]], table.values[slots[first]] = keys[first], values[first]
            left = left[table.keys[slots[left]] != keys[left]]
            slots[left] = (slots[left] + 1) & (size - 1)
        return table

    def find(self, keys: UInt64s) -> Int32s:
        """(keys,) value of every key, 0 where there is none.

        All keys take their first slot at once; only those that met another key go on, a slot further each time.
        """
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


class Beginnings(NamedTuple):
    """How phrases of one length begin: a beginning is a phrase less its last words, cut into units as a prompt is.

    phrases: (beginnings,) entry of the phrase. number: (units,) which beginning a unit is of. entries: (units,) it.
    """

    phrases: Int64s
    number: Int64s
    entries: Int64s


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Entries are `SHAPES`, then groups of words that WordNet knows and no list names, listed words, listed phrases.

    listed, others: token hash -> entry, of listed words and of WordNet's. tagged: (entries, tags) bool. names: the
    words of every entry, for people.

    The words of a group share one entry, for nothing tells them apart: their tags and their shape are the same. So the
    tables over entries stay as small as the caches of a processor, whatever WordNet holds.
    """

    tags: tuple[str, ...]
    listed: HashTable
    others: HashTable
    trie: Trie
    tagged: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    beginnings: tuple[Beginnings, ...]

    def having(self, *tags: str) -> npt.NDArray[np.bool_]:
        """(entries,) True where the entry has one of `tags`.

        Raises:
            ValueError: no list defines one of the tags; a misspelt tag would silently match nothing.
        """
        unknown = set(tags) - set(self.tags)
        if unknown:
            raise ValueError(f"no word list defines the tag(s) {', '.join(sorted(unknown))}")
        return np.logical_or.reduce(self.tagged[:, [self.tags.index(tag) for tag in tags]], axis=1)

    def counts(self, *tags: str) -> Int64s:
        """(entries,) how often an entry counts as having one of `tags`.

        A phrase counts once where it has a tag, and no less often than its beginning would count alone: "black hole"
        counts as the colour "black" does, or a prompt would lose by the word "hole". So no count of a prompt falls when
        words are put behind it.
        """
        counts = self.having(*tags).astype(np.int64)
        for some in self.beginnings:  # shorter phrases first: longer ones may begin with them
            sums = np.bincount(some.number, counts[some.entries], minlength=len(some.phrases)).astype(np.int64)
            np.maximum.at(counts, some.phrases, sums)
        return counts


@cache
def load() -> Lexicon:
    """Build the lexicon from the packaged word lists and WordNet, once a process."""
    return build(wordlists.load(), wordnet.load())


def build(entries: dict[wordlists.Words, Tags], groups: Iterable[wordnet.Group] = ()) -> Lexicon:
    """Build a lexicon.

    Args:
        entries: Words of each listed entry -> its tags; an entry of several words is a phrase.
        groups: Words of WordNet by their tags. A word that is listed, too, has the tags of both.
    """
    phrases = [words for words in entries if len(words) > 1]
    singles = sorted({word for words in entries for word in words})
    known = {word: tags for tags, members in groups for word in members}
    shaped: dict[tuple[str, Tags], list[str]] = {}
    endings = {"ing": "unknown_ing", "d": "unknown_ed", "s": "unknown_plural"}
    for word in sorted(known.keys() - set(singles)):
        shape = next((shape for ending, shape in endings.items() if word.endswith(ending)), "unknown")
        shaped.setdefault((shape, known[word]), []).append(word)
    index = {word: number for number, word in enumerate(singles, len(SHAPES) + len(shaped))}
    rows: list[Tags] = [
        *(frozenset({shape}) for shape in SHAPES),
        *(tags | {shape} for shape, tags in shaped),
        *(
            known.get(word, frozenset[str]()) | entries.get((word,), _DIGITS if word.isdigit() else _PART)
            for word in singles
        ),
        *(
            entries[phrase] | (_COLORED if "color" in entries.get(phrase[:1], ()) else frozenset())
            for phrase in phrases
        ),
    ]
    tags = tuple(sorted(frozenset[str]().union(*rows)))
    columns = {tag: column for column, tag in enumerate(tags)}
    tagged = np.zeros((len(rows), len(tags)), bool)
    tagged[np.repeat(np.arange(len(rows)), [*map(len, rows)]), [columns[tag] for row in rows for tag in row]] = True
    first = len(SHAPES) + len(shaped) + len(singles)
    numbers: dict[wordlists.Words, int] = {(word,): number for word, number in index.items()}
    numbers |= {phrase: number for number, phrase in enumerate(phrases, first)}
    spread = [(word, number) for number, members in enumerate(shaped.values(), len(SHAPES)) for word in members]
    # Hashing by `tokenise` itself keeps both sides of a look-up equal; every other token is the line feed after a word.
    words = pl.Series([*singles, *(word for word, _ in spread)], dtype=pl.String)
    hashes = tokenise(words).hashes[::2]
    return Lexicon(
        tags,
        # Most tokens are listed words, so their table is sparse and few look-ups probe twice. The words of WordNet are
        # many and asked for seldom, so their table is denser.
        HashTable.build(hashes[: len(singles)], np.array([*index.values()], np.int32), per_entry=8),
        HashTable.build(hashes[len(singles) :], np.array([number for _, number in spread], np.int32), per_entry=2),
        _trie([[index[word] for word in phrase] for phrase in phrases], first),
        tagged,
        (
            *SHAPES,
            *(f"{shape} of {members[0]}" for (shape, _), members in shaped.items()),
            *singles,
            *map(" ".join, phrases),
        ),
        tuple(_beginnings(numbers)),
    )


def _beginnings(entries: dict[wordlists.Words, int]) -> Iterator[Beginnings]:
    """The beginnings of the phrases among `entries` (words -> number), the shortest phrases first."""
    for length in range(2, max(map(len, entries), default=1) + 1):
        found = []
        for words, end in ((words, end) for words in entries if len(words) == length for end in range(1, length)):
            # Cut as a scan from the left would: the longest entry at each place.
            parts, rest = [], words[:end]
            while rest:
                size = next(size for size in range(len(rest), 0, -1) if rest[:size] in entries)
                parts.append(entries[rest[:size]])
                rest = rest[size:]
            found.append((entries[words], parts))
        sizes = [len(parts) for _, parts in found]
        yield Beginnings(
            np.array([phrase for phrase, _ in found], np.int64),
            np.repeat(np.arange(len(found)), sizes),
            np.array([part for _, parts in found for part in parts], np.int64),
        )


def _trie(phrases: list[list[int]], first_phrase: int) -> Trie:
    nodes: dict[tuple[int, int], int] = {}
    endings: dict[int, int] = {}
    for number, phrase in enumerate(phrases, first_phrase):
        node = 0
        for entry in phrase:
            node = nodes.setdefault((node, entry), len(nodes) + 1)
        endings[node] = number
    parents, entries = np.array(list(nodes), np.int64).reshape(-1, 2).T
    children = np.arange(1, len(nodes) + 1, dtype=np.int32)
    first = parents == 0
    roots = np.zeros(first_phrase, np.int32)
    roots[entries[first]] = children[first]
    phrase_of = np.zeros(len(nodes) + 1, np.int32)
    phrase_of[list(endings)] = list(endings.values())
    steps = HashTable.build(step_keys(parents[~first], entries[~first]), children[~first])
    return Trie(roots, steps, phrase_of, max((len(phrase) for phrase in phrases), default=1))


def step_keys(nodes: Int64s | Int32s, entries: Int64s | Int32s) -> UInt64s:
    """(steps,) keys of the trie steps from `nodes` over `entries`, mixed so that the hash table spreads them."""
    key = (nodes.astype(np.uint64) << np.uint64(32)) | entries.astype(np.uint64)
    return key * np.uint64(0x9E3779B97F4A7C15)
