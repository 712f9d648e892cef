"""Why prompts were dropped: a count for every reason, and the dropped rows themselves on request."""

from __future__ import annotations

from collections import Counter
from typing import IO

import polars as pl

REASONS: dict[str, str] = {
    "unreadable": "the row could not be parsed (not JSON, no such column, not text); listed in the rejects file",
    "missing": "the prompt is NULL",
    "nsfw_prompt": "prompt_nsfw is above the limit",
    "nsfw_image": "image_nsfw is above the limit",
    "exact_duplicate": "the same text was read before",
    "too_short": "fewer characters than the minimum, after cleaning; empty prompts too",
    "too_long": "more characters than the maximum, after cleaning",
    "excluded": "equal or nearly equal to a prompt of an exclusion file (leakage)",
    "near_duplicate": "nearly equal to a kept prompt of its cluster",
    "between_tiers": "rank tiering leaves out the lower half of the top third and the upper half of the bottom third",
    "not_selected": "the selection took enough others",
    "unlabelled": "the language model gave no usable labels; run again to ask once more",
}
"""Every reason for which a row may be dropped, in the order in which the rows meet them."""


class Drops:
    """Counts dropped rows by reason; with `file` (binary) given, writes them to it as JSONL."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._file = file

    @property
    def keeps_rows(self) -> bool:
        """True when dropped rows are written, so that callers have to hand them over."""
        return self._file is not None

    def count(self, reason: str, rows: int) -> None:
        """Count `rows` rows of which nothing else is known. Raises ValueError on a reason that is not in REASONS."""
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}")
        if rows:
            self.counts[reason] += rows

    def add(self, reason: str, rows: pl.DataFrame) -> None:
        """Count `rows` and write them, with their reason, where rows are wanted."""
        self.count(reason, rows.height)
        if self._file is not None and rows.height:
            rows.select(pl.lit(reason).alias("reason"), pl.all()).write_ndjson(self._file)

    def summary(self) -> dict[str, int]:
        """Counts in the order of REASONS, reasons without rows left out."""
        return {reason: self.counts[reason] for reason in REASONS if self.counts[reason]}
