"""Near-duplicates by MinHash and locality-sensitive hashing, verified exactly; the order of the input does not matter.

People send a prompt again and again with a word changed; without this step a selection would hold the same scene many
times.

Prompts whose signatures agree on all rows of some band are candidates; a candidate pair counts when the exact Jaccard
similarity of its shingles reaches the threshold. With 64 hash functions and the default threshold of 0.8 there are 10
bands of 6 rows, and a pair of similarity s becomes a candidate with probability 1 - (1 - s**6)**10:

    s     0.5    0.6    0.7    0.8    0.85   0.9    0.95
    P     0.146  0.380  0.714  0.952  0.991  0.9995 1.0000
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dyneval.errors import SettingError
from dyneval.prompts.minhash import PERMUTATIONS, Shingled, Verifier, jaccard
from dyneval.prompts.text import Int64s, UInt64s, available_cores, is_in

DEFAULT_THRESHOLD = 0.8
"""Jaccard similarity from which two prompts are near-duplicates: of 27 words, one or two replaced."""
_LEAST_RECALL = 0.95
"""Chance with which the bands have to find a pair at the threshold; more would fill buckets with unlike prompts."""
_ROUNDS = 4
"""How often the members of a bucket that are near nobody yet are compared with a new head. What is missed in one band
is found in another: in benchmarks/README.md 197 of 161,740 kept prompts still had a near one."""
_JOINED = 64
"""Most candidates that `matches` takes from one bucket of one band for a prompt."""


class Bands(NamedTuple):
    """How signatures are cut: `number` bands of `rows` values each."""

    number: int
    rows: int

    def probability(self, similarity: float) -> float:
        """Chance that a pair of this Jaccard similarity agrees on at least one band."""
        return 1 - (1 - similarity**self.rows) ** self.number

    def keys(self, prompts: Shingled, band: int) -> UInt64s:
        """(prompts,) one number for all values of a band of each signature."""
        keys = np.zeros(len(prompts), np.uint64)
        for column in range(band * self.rows, (band + 1) * self.rows):
            keys = (keys ^ prompts.signatures[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(32)
        return keys


def bands_for(threshold: float) -> Bands:
    """The most selective bands that find a pair at the threshold with probability 0.95 or more.

    Raises:
        SettingError: the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise SettingError(f"a similarity threshold lies in (0, 1], not {threshold:g}")
    cuts = (Bands(PERMUTATIONS // rows, rows) for rows in range(PERMUTATIONS // 2, 0, -1))
    return next((cut for cut in cuts if cut.probability(threshold) >= _LEAST_RECALL), Bands(PERMUTATIONS, 1))


def find_leaders(prompts: Shingled, keys: UInt64s, threshold: float = DEFAULT_THRESHOLD) -> Int64s:
    """(prompts,) index of the prompt that stands for each: itself where it is kept, else a kept one of its cluster.

    `keys`, distinct and made from the texts, decide which of two near-duplicates stays (the lower key), so the result
    does not depend on the order of the prompts. A prompt that was near only to dropped ones stays in the first pass;
    further passes, over the buckets of such prompts, are made until one drops nothing.
    """
    cut = bands_for(threshold)
    leader = np.arange(len(prompts))
    rank = np.empty_like(leader)
    rank[np.argsort(keys, kind="stable")] = leader
    kept = np.flatnonzero(np.diff(prompts.offsets) > 0)
    kept = kept[np.argsort(rank[kept])]
    focus = kept
    while len(focus):
        heads, members = _near_pairs(prompts, kept, focus, cut, threshold)
        followers, leaders = _decide(heads, members, rank)
        leader[followers] = leaders
        kept = kept[leader[kept] == kept]
        focus = np.unique(members[leader[members] == members]) if len(followers) else kept[:0]
    # A leader may have been dropped in a later pass: follow it to the one that was kept.
    while not np.array_equal(leader, leader[leader]):
        leader = leader[leader]
    return leader


def matches(prompts: Shingled, others: Shingled, threshold: float = DEFAULT_THRESHOLD) -> tuple[Int64s, Int64s]:
    """Prompts that are near-duplicates of one of `others`: (their indices, ascending; index of the most similar)."""
    mine, theirs, similarity = near_pairs(prompts, others, threshold, bands_for(threshold))
    order = np.lexsort((theirs, -similarity, mine))
    best = np.unique(mine[order], return_index=True)[1]
    return mine[order][best], theirs[order][best]


def near_pairs(
    prompts: Shingled, others: Shingled, threshold: float, cut: Bands
) -> tuple[Int64s, Int64s, npt.NDArray[np.float64]]:
    """Pairs of a prompt and one of `others` that agree on a band and reach the threshold, with their similarity."""
    found = []
    for band in range(cut.number):
        keys, other_keys = cut.keys(prompts, band), cut.keys(others, band)
        order = np.argsort(other_keys, kind="stable")
        begin, end = (np.searchsorted(other_keys[order], keys, side) for side in ("left", "right"))
        sizes = np.minimum(end - begin, _JOINED)
        places = np.arange(int(sizes.sum())) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)
        found.append((np.repeat(np.arange(len(keys)), sizes), order[places]))
    mine, theirs = _unique_pairs(*(np.concatenate(side) for side in zip(*found, strict=True)))
    similarity = jaccard(prompts, mine, others, theirs)
    near = similarity >= threshold
    return mine[near], theirs[near], similarity[near]


def _near_pairs(
    prompts: Shingled, by_rank: Int64s, focus: Int64s, cut: Bands, threshold: float
) -> tuple[Int64s, Int64s]:
    """Verified pairs, lower rank first, from the buckets of every band that hold a prompt of `focus`."""
    # Every thread has a verifier of its own, for one remembers verdicts without a lock.
    workers = min(available_cores(), cut.number)

    def work(worker: int) -> list[tuple[Int64s, Int64s]]:
        verify = Verifier(prompts, threshold)
        found = [(by_rank[:0], by_rank[:0])]
        for band in range(worker, cut.number, workers):
            keys = cut.keys(prompts, band)
            among = by_rank if len(focus) == len(by_rank) else by_rank[is_in(keys[by_rank], np.sort(keys[focus]))]
            found.extend(_band_pairs(among, keys[among], verify))
        return found

    with ThreadPoolExecutor(workers) as pool:
        found = [pair for part in pool.map(work, range(workers)) for pair in part]
    return _unique_pairs(*(np.concatenate(side) for side in zip(*found, strict=True)))


def _band_pairs(by_rank: Int64s, keys: UInt64s, verify: Verifier) -> Iterator[tuple[Int64s, Int64s]]:
    """Near pairs of one band: in each bucket all are compared with the first; who fails, with the first to fail; so on.

    Comparing all pairs of a bucket is out of the question: thousands of prompts share the same thirty words of style.
    """
    # Sort by key, and by rank where keys are equal. The place in `by_rank` replaces the lower bits of the key:
    # sorting such numbers is ten times faster than a stable argsort, and a bucket that two keys then share by chance
    # (0.2 of them in two million) fails verification.
    bits = np.uint64(max(1, len(by_rank)).bit_length())
    packed = ((keys >> bits) << bits) | np.arange(len(by_rank), dtype=np.uint64)
    packed.sort()
    members = by_rank[(packed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)]
    keys = packed >> bits
    for _ in range(_ROUNDS):
        # Most prompts are alone with their key; what is left of them would be carried through every round.
        change = keys[1:] != keys[:-1]
        first, last = np.append(True, change)[: len(keys)], np.append(change, True)[: len(keys)]
        shared = ~(first & last)
        members, keys, first = members[shared], keys[shared], first[shared]
        if not len(members):
            return
        heads = members[first][np.cumsum(first) - 1][~first]
        members, keys = members[~first], keys[~first]
        near = verify(heads, members)
        yield heads[near], members[near]
        members, keys = members[~near], keys[~near]


def _decide(heads: Int64s, members: Int64s, rank: Int64s) -> tuple[Int64s, Int64s]:
    """Decide from the lowest rank up who goes: who is near a kept prompt. Returns (those, the prompt each is near)."""
    none = len(rank)
    # The prompts of lowest rank that nobody waits for are decided in each round, all at once: a loop over the pairs in
    # order of rank gives the same, one pair at a time.
    leader_rank = np.full(none, none)
    while len(heads):
        waiting = np.zeros(none, bool)
        waiting[members] = True
        falls = ~waiting[heads]
        np.minimum.at(leader_rank, members[falls], rank[heads[falls]])
        undecided = (leader_rank[heads] == none) & (leader_rank[members] == none)
        heads, members = heads[undecided], members[undecided]
    followers = np.flatnonzero(leader_rank < none)
    return followers, np.argsort(rank, kind="stable")[leader_rank[followers]]


def _unique_pairs(a: Int64s, b: Int64s) -> tuple[Int64s, Int64s]:
    pairs = np.unique((a << 32) | b)
    return pairs >> 32, pairs & 0xFFFFFFFF
