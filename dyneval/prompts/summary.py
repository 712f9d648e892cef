"""What a run did, in numbers: summary.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import polars as pl

from dyneval.prompts import categories, complexity
from dyneval.prompts.config import Json
from dyneval.records import TIERS

if TYPE_CHECKING:
    from dyneval.prompts.filtering import FilterRun

_PERCENTILES = (0, 10, 25, 50, 75, 90, 100)


class Summary(TypedDict):
    """The keys of summary.json. Counts are of rows or prompts; `seconds` are by stage, `categories` by dimension."""

    config: Json
    factors: dict[str, float]
    """Weight of each factor."""
    sources: list[str]
    rows_read: int
    dropped: dict[str, int]
    leaked: dict[str, int]
    kept: int
    tiers: dict[str, int]
    categories: dict[str, dict[str, int]]
    complexity: dict[str, float]
    """Percentiles of H."""
    seconds: dict[str, float]


def summarise(run: FilterRun, prompts: pl.DataFrame) -> Summary:
    """Count what was read, dropped and kept; `prompts` are the kept ones."""
    h = prompts["complexity"].to_numpy()
    return {
        "config": run.config.to_dict(),
        "factors": {factor.name: factor.weight for factor in complexity.load().items},
        "sources": [source.item for source in run.sources],
        "rows_read": run.rows_read,
        "dropped": run.drops.summary(),
        "leaked": run.leaked,
        "kept": prompts.height,
        "tiers": {str(tier): int((prompts["tier"] == tier).sum()) for tier in TIERS},
        "categories": coverage(prompts),
        "complexity": {f"p{q}": round(float(np.percentile(h, q)), 2) for q in _PERCENTILES} if len(h) else {},
        "seconds": run.seconds,
    }


def coverage(prompts: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Prompts a sub-category, by dimension."""
    rules, labels = categories.load(), prompts["labels"].to_numpy()
    counts: dict[str, dict[str, int]] = {}
    for bit, category in enumerate(rules.categories):
        count = int(np.count_nonzero(labels & np.uint64(1 << bit)))
        counts.setdefault(category.dimension, {})[category.name] = count
    return counts
