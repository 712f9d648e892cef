"""MinHash signatures of prompts over pairs of neighbouring words, for estimating and verifying Jaccard similarity.

Comparing two million prompts with one another is out of reach; signatures find the few pairs that are worth a look
(`dedup`), tell how crowded a prompt is (`selection`), and the shingles verify. A prompt of n words has n shingles:
its first word, and every word with the one before it. Pairs keep "a cat chasing a dog" apart from "a dog chasing a
cat"; punctuation, case and hyphens do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dyneval.prompts.text import Int64s, Tokens, UInt64s, is_word

UInt32s = npt.NDArray[np.uint32]

PERMUTATIONS = 64
"""Hash functions a signature; an estimate of similarity s has the standard deviation sqrt(s * (1 - s) / 64)."""
EMPTY = np.uint32(0xFFFFFFFF)
"""All values of the signature of a prompt without words."""
_CELLS = 1 << 16
"""Numbers in a matrix of shingles: 256 KB, which stay in the cache of a core."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Shingled:
    """Prompts as sets of hashed shingles.

    values: the distinct shingles of each prompt, ascending, one prompt after the other. offsets: (prompts + 1,) where
    each prompt's begin. signatures: (prompts, PERMUTATIONS) least value of each hash function over the shingles.
    """

    values: UInt32s
    offsets: Int64s
    signatures: UInt32s

    def __len__(self) -> int:
        return len(self.signatures)

    def take(self, mask: npt.NDArray[np.bool_]) -> Shingled:
        """The prompts where `mask` is True."""
        sizes = np.diff(self.offsets)
        offsets = np.concatenate(([0], np.cumsum(sizes[mask])))
        return Shingled(self.values[np.repeat(mask, sizes)], offsets, self.signatures[mask])


def shingle(tokens: Tokens, seed: int) -> Shingled:
    """Shingle a chunk of prompts and sign them with the hash functions of `seed`."""
    words = np.flatnonzero(is_word(tokens))
    rows = np.searchsorted(tokens.ends, words)
    hashes = tokens.hashes[words]
    before = np.zeros_like(hashes)
    before[1:] = np.where(rows[1:] == rows[:-1], hashes[:-1], np.uint64(0))
    # The word before is mixed twice, so that "a b" and "b a" are two shingles. The prompt's number stands in the
    # upper 32 bits of a key and the shingle's hash in the lower ones, so that one sort puts every prompt's shingles
    # in order.
    keys = (rows.astype(np.uint64) << np.uint64(32)) | (_mix(hashes + _mix(before)) >> np.uint64(32))
    keys.sort()
    keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    offsets = np.searchsorted(keys, np.arange(len(tokens.ends) + 1, dtype=np.uint64) << np.uint64(32))
    values = keys.astype(np.uint32)
    return Shingled(values, offsets, _sign(values, offsets, seed))


class Collector:
    """Joins the chunks of `prompts` prompts; signatures are written into place, so they exist once in memory."""

    def __init__(self, prompts: int) -> None:
        self._signatures = np.empty((prompts, PERMUTATIONS), np.uint32)
        self._values: list[UInt32s] = []
        self._sizes: list[Int64s] = [np.zeros(1, np.int64)]
        self._rows = 0

    def add(self, part: Shingled) -> None:
        """Append the next chunk."""
        self._signatures[self._rows : self._rows + len(part)] = part.signatures
        self._values.append(part.values)
        self._sizes.append(np.diff(part.offsets))
        self._rows += len(part)

    def finish(self) -> Shingled:
        """All chunks as one."""
        values = np.concatenate([np.zeros(0, np.uint32), *self._values])
        return Shingled(values, np.cumsum(np.concatenate(self._sizes)), self._signatures)


def _mix(values: UInt64s) -> UInt64s:
    values = (values ^ (values >> np.uint64(31))) * _MIX
    return (values ^ (values >> np.uint64(29))) * _MIX


def _sign(values: UInt32s, offsets: Int64s, seed: int) -> UInt32s:
    """Least value of every hash function over each prompt's shingles.

    Prompts of about the same number of shingles are laid out as a matrix, a column each, and reduced along its first
    axis: 15 times faster than np.minimum.reduceat over segments as short as prompts are.
    """
    signatures = np.full((len(offsets) - 1, PERMUTATIONS), EMPTY, np.uint32)
    factors, shifts = np.random.default_rng(seed).integers(0, 2**32, (2, PERMUTATIONS), np.uint32)
    factors |= np.uint32(1)
    sizes = np.diff(offsets)
    # Columns are filled up to a multiple of four by repeating the last shingle, which changes no minimum: fewer
    # matrices, and wider ones.
    heights = (sizes + 3) // 4 * 4
    order = np.argsort(heights, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(heights[order])) + 1):
        height = int(heights[group[0]]) if len(group) else 0
        width = max(1, _CELLS // max(1, height))
        for begin in range(0, len(group) if height else 0, width):
            rows = group[begin : begin + width]
            steps = np.minimum(np.arange(height)[:, None], sizes[rows] - 1)
            matrix = values[offsets[rows] + steps]
            scratch = np.empty_like(matrix)
            least = np.empty((PERMUTATIONS, len(rows)), np.uint32)
            for number in range(PERMUTATIONS):
                # x -> a * x + b modulo 2**32 with odd a permutes the 32-bit numbers; shingles are well mixed already.
                np.multiply(matrix, factors[number], out=scratch)
                np.add(scratch, shifts[number], out=scratch)
                np.minimum.reduce(scratch, axis=0, out=least[number])
            signatures[rows] = least.T
    return signatures


Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_PAIRS = 1 << 16
"""Pairs that are compared at once, so that memory does not grow with their number."""
_SLACK = 0.25
"""Pairs whose signatures say so much (four to five standard deviations) less than the threshold are not verified."""


def jaccard(left: Shingled, a: Int64s, right: Shingled, b: Int64s) -> Floats:
    """(pairs,) exact similarity of the shingle sets of left[a] and right[b], 0-1; two empty sets have 0."""
    similarity = np.zeros(len(a))
    for begin in range(0, len(a), _PAIRS):
        rows = slice(begin, begin + _PAIRS)
        keys = np.concatenate((_keys(left, a[rows]), _keys(right, b[rows])))
        keys.sort()
        # A shingle occurs once in a set, so a key that occurs twice is in both sets of its pair.
        common = keys[:-1][keys[1:] == keys[:-1]] >> np.uint64(32)
        both = np.bincount(common.astype(np.int64), minlength=len(a[rows]))
        total = np.diff(left.offsets)[a[rows]] + np.diff(right.offsets)[b[rows]] - both
        np.divide(both, total, out=similarity[rows], where=total > 0)
    return similarity


def estimate(left: Shingled, a: Int64s, right: Shingled, b: Int64s) -> Floats:
    """(pairs,) share of the hash functions on which the signatures of left[a] and right[b] agree, 0-1."""
    similarity = np.zeros(len(a))
    for begin in range(0, len(a), _PAIRS):
        rows = slice(begin, begin + _PAIRS)
        similarity[rows] = (left.signatures[a[rows]] == right.signatures[b[rows]]).mean(axis=1)
    return similarity


class Verifier:
    """Tells near pairs from others, and remembers for each prompt the last verdict on it: bands repeat their pairs."""

    def __init__(self, prompts: Shingled, threshold: float) -> None:
        self._prompts, self._threshold = prompts, threshold
        self._other = np.full(len(prompts), -1)
        self._near = np.zeros(len(prompts), bool)

    def __call__(self, heads: Int64s, members: Int64s) -> Bools:
        """(pairs,) True where the similarity of heads and members (each member once) reaches the threshold."""
        unsure = np.flatnonzero(self._other[members] != heads)
        alike = estimate(self._prompts, heads[unsure], self._prompts, members[unsure])
        likely = unsure[alike >= self._threshold - _SLACK]
        near = self._near[members] & (self._other[members] == heads)
        near[likely] = jaccard(self._prompts, heads[likely], self._prompts, members[likely]) >= self._threshold
        self._other[members], self._near[members] = heads, near
        return near


def _keys(prompts: Shingled, rows: Int64s) -> npt.NDArray[np.uint64]:
    """Shingles of the given prompts, the number of the pair in the upper 32 bits."""
    sizes = prompts.offsets[rows + 1] - prompts.offsets[rows]
    begins = np.cumsum(sizes) - sizes
    places = np.arange(int(sizes.sum())) + np.repeat(prompts.offsets[rows] - begins, sizes)
    pairs = np.repeat(np.arange(len(rows), dtype=np.uint64), sizes)
    return (pairs << np.uint64(32)) | prompts.values[places]
