"""The files that Step 1 leaves: prompts.parquet, prompts.jsonl, tier-{1,2,3}-prompts.txt, each complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from dyneval.files.atomic import atomic_write
from dyneval.files.jsonl import to_line
from dyneval.prompts import categories, complexity
from dyneval.prompts.config import Json
from dyneval.prompts.text import in_other_script
from dyneval.records import TIERS, Reject

if TYPE_CHECKING:
    from dyneval.prompts.llm_labels import LabelAgreement
    from dyneval.prompts.pipeline import FilterRun
    from dyneval.prompts.selection import Spread
from dyneval.prompts.complexity import Floats

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
        "categories": coverage(prompts),
        "selection": run.selection,
        "agreement": run.agreement,
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


def clear(folder: Path) -> None:
    """Remove what an earlier run left and this one may not write again; it would contradict the new files."""
    for name in (JSONL, DROPPED, CLUSTERS, LEAKAGE, REJECTS):
        (folder / name).unlink(missing_ok=True)


def write_prompts(folder: Path, prompts: pl.DataFrame, table: RecordTable, jsonl: bool) -> None:
    """Write the rows of `table` as Parquet and, on request, as JSONL, and the texts of `prompts`, a file a tier."""
    with writing(folder / PARQUET) as file:
        _stream(table).sink_parquet(file, compression="zstd", compression_level=1)
    for tier in TIERS:
        lines = prompts.lazy().filter(pl.col("tier") == tier).select("prompt").collect()
        with writing(folder / tier_file(tier)) as file:
            # A clean prompt has no line end, so lines without quoting are what they look like: the prompts themselves.
            lines.write_csv(file, include_header=False, quote_style="never")
    if jsonl:
        with writing(folder / JSONL) as file:
            for batch in table.batches():
                batch.write_ndjson(file)


def _stream(table: RecordTable) -> pl.LazyFrame:
    """The batches as a lazy frame, so that polars writes one while the next is made."""

    def batches(columns: list[str] | None, *_: object) -> Iterator[pl.DataFrame]:
        return (batch.select(columns) if columns else batch for batch in table.batches())

    return register_io_source(batches, schema=table.schema)


def write_rejects(file: IO[bytes], rejects: list[Reject]) -> None:
    """Append rows that could not be read to the open rejects file."""
    for reject in rejects:
        file.write(to_line(reject.row("key")))


def remove_empty(path: Path) -> None:
    """Remove a file that has nothing in it."""
    if path.exists() and not path.stat().st_size:
        path.unlink()


def write_clusters(folder: Path, prompts: pl.DataFrame) -> None:
    """Write the members of every cluster of near-duplicates: cluster_id is the prompt_id of the one that was kept."""
    clusters = prompts.filter(pl.col("cluster_size") > 1).select("cluster_id", "prompt_id", "prompt")
    with writing(folder / CLUSTERS) as file:
        clusters.sort("cluster_id", "prompt_id").write_parquet(file)
