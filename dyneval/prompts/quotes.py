"""Quoted text: it is to be written in the picture, so its words say nothing about what the picture shows."""

from __future__ import annotations

import numpy as np

from dyneval.prompts.lexicon import UNKNOWN, Lexicon
from dyneval.prompts.patterns import Bools
from dyneval.prompts.text import Int64s

LONGEST = 12
"""Units between two quotes that still count as text in the picture; whole prompts come in quotes as well."""


def hide(entries: Int64s, rows: Int64s, lexicon: Lexicon) -> Int64s:
    """Return the entries of a batch with what stands between two quotes of a prompt made unknown.

    A quote that opens its prompt is left alone: there it encloses the prompt.
    """
    opening, closing = _pairs(lexicon.having("quote_mark")[entries], rows)
    change = np.zeros(len(entries) + 1, np.int8)
    np.add.at(change, opening + 1, 1)
    np.add.at(change, closing, -1)
    return np.where(np.cumsum(change[:-1]) > 0, UNKNOWN, entries)


def _pairs(is_mark: Bools, rows: Int64s) -> tuple[Int64s, Int64s]:
    marks = np.flatnonzero(is_mark)
    first = np.searchsorted(rows[marks], rows[marks])
    opening = np.flatnonzero((np.arange(len(marks)) - first) % 2 == 0)
    opening = opening[opening + 1 < len(marks)]
    a, b = marks[opening], marks[opening + 1]
    inside = (rows[a] == rows[b]) & (b - a <= LONGEST) & (a > 0) & (rows[a - 1] == rows[a])
    return a[inside], b[inside]
