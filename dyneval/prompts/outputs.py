"""The files that Step 1 leaves: prompts.parquet, prompts.jsonl, tier-{1,2,3}-prompts.txt, each complete or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source

from dyneval.files.atomic import atomic_write, write_summary
from dyneval.files.jsonl import to_line
from dyneval.prompts import report
from dyneval.prompts.config import FilterConfig
from dyneval.prompts.summary import Summary
from dyneval.prompts.table import RecordTable
from dyneval.records import TIERS, Reject, RunSummary

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


def write_summary_and_report(config: FilterConfig, summary: Summary, prompts: pl.DataFrame) -> None:
    """Write summary.json and report.html."""
    with atomic_write(config.output / REPORT) as file:
        file.write(report.render(config, summary, prompts))
    run = RunSummary(made=summary["kept"], rejected=summary["rows_read"] - summary["kept"])
    write_summary(config.output / SUMMARY, run, summary)
