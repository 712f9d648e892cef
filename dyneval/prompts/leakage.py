"""Leakage: training prompts that are near-duplicates of benchmark prompts."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from dyneval.prompts import dedup, similarity, sources
from dyneval.prompts.analysis import shingles
from dyneval.prompts.clean import clean_text
from dyneval.prompts.config import FilterConfig
from dyneval.prompts.minhash import Shingled
from dyneval.prompts.outputs import LEAKAGE, writing


def find(shingled: Shingled, prompts: pl.DataFrame, config: FilterConfig) -> pl.DataFrame:
    """Find the prompts that an exclusion file forbids.

    Returns:
        Their rows: row (number in `prompts`), prompt_id, prompt and, of the benchmark prompt that each is most
        similar to, benchmark (file), benchmark_prompt and jaccard (0-1).

    Raises:
        SourceError: an exclusion file cannot be read.
    """
    others = _benchmark_prompts(config)
    signed = shingles(others["benchmark_prompt"], config.seed)
    mine, theirs = dedup.matches(shingled, signed, config.near)
    return pl.concat(
        [
            pl.DataFrame({"row": mine, "jaccard": similarity.jaccard(shingled, mine, signed, theirs).round(4)}),
            prompts[mine].select("prompt_id", "prompt"),
            others[theirs],
        ],
        how="horizontal",
    )


def write(folder: Path, found: pl.DataFrame) -> dict[str, int]:
    """Write the report, one JSON line a leaked prompt, and count them by benchmark."""
    report = found.sort("benchmark", "prompt_id").select(pl.exclude("row"))
    with writing(folder / LEAKAGE) as file:
        report.write_ndjson(file)
    return dict(report["benchmark"].value_counts().sort("benchmark").iter_rows())


def _benchmark_prompts(config: FilterConfig) -> pl.DataFrame:
    """All prompts of the exclusion files, however short; columns benchmark, benchmark_prompt."""
    empty = pl.DataFrame(schema={"benchmark": pl.String, "benchmark_prompt": pl.String})
    found = [
        batch.rows.select(
            pl.lit(source.name).alias("benchmark"), clean_text(pl.col("prompt")).alias("benchmark_prompt")
        )
        for source in sources.find(config.exclude)
        for batch in sources.read(source, config.exclude_column or config.column, config.split)
    ]
    return pl.concat([empty, *found]).drop_nulls().unique(subset="benchmark_prompt", maintain_order=True)
