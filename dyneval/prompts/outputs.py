"""The files that Step 1 leaves: prompts.parquet, prompts.jsonl, tier-{1,2,3}-prompts.txt, each complete or absent.

Step 2 reads them, so names and columns are fixed (`records.Prompt`). Rows are written in batches of `BATCH`: columns
that only the files have are never in memory for all prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from dyneval.files.atomic import atomic_write
from dyneval.prompts import categories, complexity
from dyneval.prompts.complexity import Floats
from dyneval.prompts.config import Json
from dyneval.prompts.text import in_other_script
from dyneval.records import TIERS

if TYPE_CHECKING:
    from dyneval.prompts.llm_labels import LabelAgreement
    from dyneval.prompts.pipeline import FilterRun
    from dyneval.prompts.selection import Spread

_PERCENTILES = (0, 10, 25, 50, 75, 90, 100)


class FilterSummary(TypedDict):
    """The keys of summary.json. Counts are of rows or prompts; `seconds` are by stage, `categories` by dimension."""

    config: Json
    factors: dict[str, float]
    """Weight of each factor."""
    sources: list[str]
    rows_read: int
    dropped: dict[str, int]
    changed: dict[str, int]
    """Prompts whose text a filter changed, by filter."""
    samples: dict[str, list[str]]
    """A few prompts that each reason or filter met, the text before a change."""
    leaked: dict[str, int]
    kept: int
    other_scripts: int
    """Kept prompts that the rules cannot label, for half of their letters or more are not Latin."""
    tiers: dict[str, int]
    categories: dict[str, dict[str, int]]
    selection: dict[str, Spread]
    """How varied the selected prompts are, and as many drawn at random; empty without --count."""
    agreement: LabelAgreement | None
    """Of the model's labels with the rules'; null where no model labelled."""
    complexity: dict[str, float]
    """Percentiles of H."""
    seconds: dict[str, float]


def summarise(run: FilterRun, prompts: pl.DataFrame) -> FilterSummary:
    """Count what was read, dropped and kept; `prompts` are the kept ones."""
    h = prompts["complexity"].to_numpy()
    labels = prompts["labels"].to_numpy()
    by_dimension: dict[str, dict[str, int]] = {}
    for bit, category in enumerate(categories.load().categories):
        count = int(np.count_nonzero(labels & np.uint64(1 << bit)))
        by_dimension.setdefault(category.dimension, {})[category.name] = count
    return {
        "config": run.config.to_dict(),
        "factors": {factor.name: factor.weight for factor in complexity.load().items},
        "sources": [source.item for source in run.sources],
        "rows_read": run.rows_read,
        "dropped": run.drops.summary(),
        "changed": dict(run.drops.changed),
        "samples": run.drops.samples,
        "leaked": run.leaked,
        "kept": prompts.height,
        "other_scripts": int(in_other_script(prompts["prompt"]).sum()),
        "tiers": {str(tier): int((prompts["tier"] == tier).sum()) for tier in TIERS},
        "categories": by_dimension,
        "selection": run.selection,
        "agreement": run.agreement,
        "complexity": {f"p{q}": round(float(np.percentile(h, q)), 2) for q in _PERCENTILES} if len(h) else {},
        "seconds": run.seconds,
    }


BATCH = 100_000
"""Rows that are expanded to all their columns at once."""


def expand_rows(prompts: pl.DataFrame, points: Floats) -> pl.DataFrame:
    """Rows as they are written: columns of `records.Prompt`, and cluster_size where near-duplicates were looked for.

    Args:
        prompts: prompt_id, prompt, complexity, tier, labels, source and row (the prompt's row in `points`).
        points: (rows, 9) values of the factors.
    """
    values = points[prompts["row"].to_numpy()]
    factors = pl.DataFrame({name: values[:, i] for i, name in enumerate(complexity.load().names)})
    return prompts.select(
        "prompt_id",
        "prompt",
        "complexity",
        factors.to_struct("factors"),
        "tier",
        categories.load().expand(prompts["labels"].to_numpy()),
        pl.col("source").cast(pl.String),
        *(column for column in ("cluster_size",) if column in prompts.columns),
    )


PARQUET, JSONL, SUMMARY, REPORT = "prompts.parquet", "prompts.jsonl", "summary.json", "report.html"
REJECTS, DROPPED, CLUSTERS = "prompts.rejects.jsonl", "dropped.jsonl", "clusters.parquet"
LEAKAGE = "leakage.jsonl"


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """`atomic_write` in binary mode for polars. Raises OSError naming the file when it cannot be written."""
    try:
        with atomic_write(path, "wb") as file:
            yield file
    except pl.exceptions.PolarsError as error:
        raise OSError(f"{path}: cannot be written ({str(error).splitlines()[0]})") from error


def tier_file(tier: int) -> str:
    """Name of the text file with the prompts of one tier."""
    return f"tier-{tier}-prompts.txt"


def files(folder: Path) -> list[Path]:
    """The files that a run writes, replaces or removes in its folder."""
    names = (PARQUET, JSONL, SUMMARY, REPORT, REJECTS, DROPPED, CLUSTERS, LEAKAGE)
    return [folder / name for name in (*names, *map(tier_file, TIERS))]


def write_prompts(folder: Path, prompts: pl.DataFrame, points: Floats, jsonl: bool) -> None:
    """Write prompts as Parquet and, on request, as JSONL, and their texts, a file a tier; see `expand_rows`."""

    def batches(columns: list[str] | None = None, *_: object) -> Iterator[pl.DataFrame]:
        for rows in prompts.iter_slices(BATCH):
            batch = expand_rows(rows, points)
            yield batch.select(columns) if columns else batch

    with writing(folder / PARQUET) as file:
        # As a lazy source, so that polars writes one batch while the next is made.
        source = register_io_source(batches, schema=expand_rows(prompts.clear(), points).schema)
        source.sink_parquet(file, compression="zstd", compression_level=1)
    for tier in TIERS:
        lines = prompts.lazy().filter(pl.col("tier") == tier).select("prompt").collect()
        with writing(folder / tier_file(tier)) as file:
            # A clean prompt has no line end, so lines without quoting are what they look like: the prompts themselves.
            lines.write_csv(file, include_header=False, quote_style="never")
    if jsonl:
        with writing(folder / JSONL) as file:
            for batch in batches():
                batch.write_ndjson(file)


def write_clusters(folder: Path, prompts: pl.DataFrame) -> None:
    """Write the members of every cluster of near-duplicates: cluster_id is the prompt_id of the one that was kept."""
    clusters = prompts.filter(pl.col("cluster_size") > 1).select("cluster_id", "prompt_id", "prompt")
    with writing(folder / CLUSTERS) as file:
        clusters.sort("cluster_id", "prompt_id").write_parquet(file)
