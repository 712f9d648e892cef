"""Clean prompts: one line of text each, blanks and control characters made single blanks, bad rows dropped.

All later stages rely on it: a line feed within a prompt would make two prompts of it in a tier file, and a prompt that
differs by a blank would be another prompt. Rows are compared by a 64-bit hash of their text. Among two million distinct
prompts the chance that any two share one is 1e-7; the loss would be one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dyneval.errors import SettingError
from dyneval.prompts.filters import Drops, Filter
from dyneval.prompts.text import is_in

MIN_CHARS = 30
"""Shorter prompts are dropped, as published."""
MAX_CHARS = 4096
"""Longer prompts are dropped: Stable Diffusion read 77 tokens, so such a text is a paste, not a prompt."""
MAX_NSFW = 0.5
"""Rows scored above are dropped. Both scores of DiffusionDB lie in 0-1; an image_nsfw of 2.0 marks a blurred image."""

# Cc, blanks of all kinds, zero-width and bidirectional control characters; the joiners of emoji and scripts stay.
_UNWANTED = (
    r"\x00-\x1f\x7f-\x9f\u00a0\u00ad\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f\u2060\u2066-\u2069\u3000\ufeff"
)
_WIDE = r"[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f]"  # wide digits and letters, narrow katakana
_TO_CLEAN = rf"[{_UNWANTED}]|  |^ | $"
_RUN = rf"[ {_UNWANTED}]+"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a prompt may be: characters after cleaning (both ends included) and the highest NSFW scores."""

    min_chars: int = MIN_CHARS
    max_chars: int = MAX_CHARS
    max_prompt_nsfw: float = MAX_NSFW
    max_image_nsfw: float = MAX_NSFW

    def __post_init__(self) -> None:
        if not 1 <= self.min_chars <= self.max_chars:
            raise SettingError(f"min_chars = {self.min_chars}, max_chars = {self.max_chars}: need 1 <= min <= max")


class DistinctTexts:
    """The hashes met so far: a large sorted array and a small one that is merged in from time to time.

    A set of Python integers would take several times the memory.
    """

    def __init__(self) -> None:
        self._old = np.zeros(0, np.uint64)
        self._new = np.zeros(0, np.uint64)

    def first(self, texts: pl.Series) -> pl.Series:
        """(rows,) True for texts that were not met before, in this batch or earlier."""
        hashes = texts.hash().to_numpy()
        unique, index = np.unique(hashes, return_index=True)
        fresh = ~(is_in(unique, self._old) | is_in(unique, self._new))
        self._new = np.sort(np.concatenate((self._new, unique[fresh])), kind="stable")
        # Merging a few into millions for every batch would copy the millions; 200,000 is one batch of the reader.
        if len(self._new) > 200_000:
            self._old = np.sort(np.concatenate((self._old, self._new)), kind="stable")
            self._new = np.zeros(0, np.uint64)
        mask = np.zeros(len(hashes), bool)
        mask[index[fresh]] = True
        return pl.Series(mask)


def clean_text(prompts: pl.Expr) -> pl.Expr:
    """Clean prompts to one line each; prompts that are clean already are not touched (most of them, and it is slow).

    Letters with accents are written as one character where there is one (NFC): e and an accent after it, as macOS
    writes é, look the same and would be another prompt. So would the same words in the wide letters of East Asian
    keyboards: prompts that hold such letters are written in common ones (NFKC).
    """
    foreign = pl.when(prompts.str.len_bytes() != prompts.str.len_chars()).then(prompts)
    wide = pl.when(foreign.str.contains(_WIDE)).then(prompts)
    composed = pl.coalesce(wide.str.normalize("NFKC"), foreign.str.normalize("NFC"), prompts)
    return (
        pl.when(composed.str.contains(_TO_CLEAN))
        .then(composed.str.replace_all(_RUN, " ").str.strip_chars(" "))
        .otherwise(composed)
    )


class Cleaner:
    """Turns batches of raw rows into batches of clean, distinct prompts that pass the limits and the filters."""

    def __init__(self, limits: Limits, drops: Drops, filters: Sequence[Filter] = ()) -> None:
        """`drops` counts what is left out, and why."""
        self._limits, self._drops = limits, drops
        self._filters = list(filters)
        self._raw, self._clean, self._changed = DistinctTexts(), DistinctTexts(), DistinctTexts()

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows to keep. rows: columns prompt, prompt_nsfw, image_nsfw (scores may be NULL) and others."""
        limits = self._limits
        rows = self._drop("missing", rows, pl.col("prompt").is_null())
        # NaN, which pandas makes of a missing score, would be above every limit.
        for reason, column, limit in (
            ("nsfw_prompt", "prompt_nsfw", limits.max_prompt_nsfw),
            ("nsfw_image", "image_nsfw", limits.max_image_nsfw),
        ):
            rows = self._drop(reason, rows, pl.col(column).fill_nan(None) > limit)
        # Repeats go before the text is looked at: of the 14 million rows of metadata-large seven in eight are repeats.
        rows = self._drops.keep("exact_duplicate", rows, self._raw.first(rows["prompt"]))
        rows = rows.select(pl.exclude("prompt_nsfw", "image_nsfw"))
        rows = rows.with_columns(clean_text(pl.col("prompt")))
        if self._filters:
            # Filters are slower than looking for repeats, so they get none.
            rows = self._drops.keep("exact_duplicate", rows, self._clean.first(rows["prompt"]))
            for one in self._filters:
                rows = self._drops.apply(one, rows)
            rows = rows.with_columns(clean_text(pl.col("prompt")))
        chars = pl.col("prompt").str.len_chars()
        rows = self._drop("too_short", rows, chars < limits.min_chars)
        rows = self._drop("too_long", rows, chars > limits.max_chars)
        # A filtered frame holds on to all text of the batch that it was cut from; appending nothing makes a copy of its
        # own. Without it, 14 million rows of which one in eight is kept held 1.5 GB more.
        seen = self._changed if self._filters else self._clean
        rows = self._drops.keep("exact_duplicate", rows, seen.first(rows["prompt"]))
        return rows.with_columns(pl.concat_str("prompt", pl.lit("")))

    def _drop(self, reason: str, rows: pl.DataFrame, mask: pl.Expr) -> pl.DataFrame:
        return self._drops.keep(reason, rows, ~rows.select(mask.fill_null(False)).to_series())
