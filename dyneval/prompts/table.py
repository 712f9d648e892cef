"""The kept prompts as rows of PromptRecord, made a batch at a time while they are written."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from dyneval.prompts import categories, complexity
from dyneval.prompts.complexity import Floats

BATCH = 100_000


class RecordTable:
    """Rows of PromptRecord, in order, with cluster_size where near-duplicates were looked for."""

    def __init__(self, prompts: pl.DataFrame, points: Floats) -> None:
        """`prompts` has prompt_id, prompt, complexity, tier, labels, source and row: its row in `points`."""
        self._prompts, self._points = prompts, points
        self._factors = complexity.load().names
        self._labeller = categories.load()

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def schema(self) -> pl.Schema:
        """Columns of a batch."""
        return self._batch(self._prompts.clear()).schema

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows, some at a time."""
        for rows in self._prompts.iter_slices(BATCH):
            yield self._batch(rows)

    def _batch(self, prompts: pl.DataFrame) -> pl.DataFrame:
        points = self._points[prompts["row"].to_numpy()]
        factors = pl.DataFrame({name: points[:, i] for i, name in enumerate(self._factors)})
        extra = [column for column in ("cluster_size",) if column in prompts.columns]
        return prompts.select(
            "prompt_id",
            "prompt",
            "complexity",
            factors.to_struct("factors"),
            "tier",
            self._labeller.expand(prompts["labels"].to_numpy()),
            pl.col("source").cast(pl.String),
            *extra,
        )
