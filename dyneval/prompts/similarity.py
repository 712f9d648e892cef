"""Jaccard similarity of pairs of prompts: estimated from signatures where that decides, exact where it is close."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dyneval.prompts.minhash import Shingled
from dyneval.prompts.text import Int64s

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_PAIRS = 1 << 16
_SLACK = 0.25
"""Pairs whose signatures say so much (four to five standard deviations) less than the threshold are not verified."""


def jaccard(left: Shingled, a: Int64s, right: Shingled, b: Int64s) -> Floats:
    """(pairs,) exact similarity of the shingle sets of left[a] and right[b], 0-1; two empty sets have 0."""
    parts = [
        _jaccard(left, a[begin : begin + _PAIRS], right, b[begin : begin + _PAIRS])
        for begin in range(0, len(a), _PAIRS)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def estimate(left: Shingled, a: Int64s, right: Shingled, b: Int64s) -> Floats:
    """(pairs,) share of the hash functions on which the signatures of left[a] and right[b] agree, 0-1."""
    parts = [
        (left.signatures[a[begin : begin + _PAIRS]] == right.signatures[b[begin : begin + _PAIRS]]).mean(axis=1)
        for begin in range(0, len(a), _PAIRS)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


class Verifier:
    """Tells near pairs from others, and remembers for each prompt the last verdict on it: bands repeat their pairs."""

    def __init__(self, prompts: Shingled, threshold: float) -> None:
        self._prompts, self._threshold = prompts, threshold
        self._other = np.full(len(prompts), -1)
        self._near = np.zeros(len(prompts), bool)

    def __call__(self, heads: Int64s, members: Int64s) -> Bools:
        """(pairs,) True where the similarity of heads and members (each member once) reaches the threshold."""
        unsure = np.flatnonzero(self._other[members] != heads)
        likely = unsure[self._estimate(heads[unsure], members[unsure]) >= self._threshold - _SLACK]
        near = self._near[members] & (self._other[members] == heads)
        near[likely] = jaccard(self._prompts, heads[likely], self._prompts, members[likely]) >= self._threshold
        self._other[members], self._near[members] = heads, near
        return near

    def _estimate(self, heads: Int64s, members: Int64s) -> Floats:
        return estimate(self._prompts, heads, self._prompts, members)


def _jaccard(left: Shingled, a: Int64s, right: Shingled, b: Int64s) -> Floats:
    keys = np.concatenate((_keys(left, a), _keys(right, b)))
    keys.sort()
    # A shingle occurs once in a set, so a key that occurs twice is in both sets of its pair.
    common = keys[:-1][keys[1:] == keys[:-1]] >> np.uint64(32)
    both = np.bincount(common.astype(np.int64), minlength=len(a))
    total = np.diff(left.offsets)[a] + np.diff(right.offsets)[b] - both
    return np.divide(both, total, out=np.zeros(len(a)), where=total > 0)


def _keys(prompts: Shingled, rows: Int64s) -> npt.NDArray[np.uint64]:
    """Shingles of the given prompts, the number of the pair in the upper 32 bits."""
    sizes = prompts.offsets[rows + 1] - prompts.offsets[rows]
    begins = np.cumsum(sizes) - sizes
    places = np.arange(int(sizes.sum())) + np.repeat(prompts.offsets[rows] - begins, sizes)
    pairs = np.repeat(np.arange(len(rows), dtype=np.uint64), sizes)
    return (pairs << np.uint64(32)) | prompts.values[places]
