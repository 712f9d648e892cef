"""What a GenDB holds, and parts of it: statistics, duplicate and broken images, a GenDB of some of the pairs.

These are the verbs `stats`, `duplicates`, `check` and `filter` of `dyneval gendb`. They ask the index
(`dyneval.generation.index`), so a folder of 500,000 pairs is counted in about a second; a record is read only when it
is copied, an image only when it is checked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from tabulate import tabulate

from dyneval.errors import GenerationError, ImageError
from dyneval.files import images
from dyneval.files.atomic import atomic_write
from dyneval.generation import saving
from dyneval.generation.index import Index, Selection
from dyneval.records import PairRecord, Reject
from dyneval.work.ahead import ahead

NO_CATEGORY = "(no category)"


def statistics(index: Index, selection: Selection) -> dict[str, Any]:
    """Count what a GenDB holds.

    Returns:
        JSON values.
        `pairs`, `prompts`, `duplicates` (images beyond the first with the same bytes), `rejected` (rows of the metadata
        that are not valid), `models` and `categories`: for each its name, pairs, prompts; for models also the tiers of
        its pairs, mean seconds and cost in US dollars, where that was recorded, and sizes with their counts.
    """
    frame = index.frame(selection)
    counts = [pl.len().alias("pairs"), pl.col("prompt_id").n_unique().alias("prompts")]
    of_models = [
        *counts,
        pl.col("tier").drop_nulls().unique().sort().alias("tiers"),
        pl.col("seconds").mean().round(2).alias("mean_seconds"),
        pl.col("cost_usd").sum().round(4),
    ]
    size = pl.format("{}x{}", "width", "height").fill_null("?").alias("size")
    first_tier = pl.col("tiers").list.first()
    models, sizes, categories, totals = selection.collect(
        frame.group_by("generation_model").agg(of_models).sort(first_tier, "generation_model", nulls_last=True),
        frame.group_by("generation_model", size).len().sort("generation_model", "len", descending=[False, True]),
        by_category(frame).group_by("category").agg(counts).sort("category"),
        frame.select(*counts, (pl.len() - pl.col("sha256").n_unique()).alias("duplicates")),
    )
    found: dict[str, dict[str, int]] = {model: {} for model in models["generation_model"]}
    for model, name, count in sizes.iter_rows():
        found[model][name] = count
    return {
        **totals.row(0, named=True),
        "rejected": index.rejected,
        "models": [{**row, "sizes": found[row["generation_model"]]} for row in models.iter_rows(named=True)],
        "categories": categories.to_dicts(),
    }


def by_category(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Return a row for each category of each pair, in the column `category`; NO_CATEGORY for a pair without one."""
    named = pl.when(pl.col("categories").list.len() > 0).then("categories").otherwise(pl.lit([NO_CATEGORY]))
    return frame.with_columns(named.alias("category")).explode("category")


def table(found: dict[str, Any]) -> str:
    """Write what `statistics` returned as text for people: one line of totals, a table of models, one of categories."""
    head = f"{found['pairs']} pairs of {found['prompts']} prompts; {found['duplicates']} images are there twice"
    models = [
        {
            "model": row["generation_model"],
            "tier": ", ".join(map(str, row["tiers"])),
            "pairs": row["pairs"],
            "s an image": row["mean_seconds"],
            "USD": row["cost_usd"] or None,  # an empty cell: most models cost nothing a call
            "sizes": ", ".join(list(row["sizes"])[:3]) + (", ..." if len(row["sizes"]) > 3 else ""),
        }
        for row in found["models"]
    ]
    categories = [{"category": row["category"], "pairs": row["pairs"]} for row in found["categories"]]
    shown = [tabulate(rows, headers="keys", tablefmt="simple") for rows in (models, categories)]
    return "\n\n".join([head, *shown])


def duplicates(index: Index, selection: Selection) -> Iterator[list[str]]:
    """Return the pair_ids of images with the same bytes, sorted in each group, the largest group first."""
    groups = index.frame(selection).group_by("sha256").agg(pl.col("pair_id").sort(), pl.len())
    found = groups.filter(pl.col("len") > 1).sort(["len", "sha256"], descending=[True, False])
    (listed,) = selection.collect(found.select("pair_id"))
    return (pair_ids for (pair_ids,) in listed.iter_rows())


def broken(index: Index, selection: Selection) -> Iterator[Reject]:
    """Yield the pairs whose image or sidecar is missing, does not decode, or is not the one recorded.

    Every image is decoded and hashed, 44 ms of CPU at 1024x1024, in as many threads as there are cores.
    """
    # `ahead` takes at most twice as many records as there are threads, so the memory does not grow with the folder.
    checks = (partial(_check, index.folder, record) for record in index.records(selection))
    return (fault for fault in ahead(checks, os.cpu_count() or 1) if fault)


def _check(folder: Path, record: PairRecord) -> Reject | None:
    """Return what is wrong with the files of a record, or None."""
    reason = saving.fault(folder, saving.recorded(record.file_name, record.sha256, record.settings))
    if reason is None:
        return None
    return Reject(key=record.pair_id, kind="image", reason=reason, detail={"file_name": record.file_name})


def copy_selection(index: Index, selection: Selection, output: Path) -> tuple[int, list[Reject]]:
    """Make a GenDB of the selected pairs.

    Files are linked where the file system can, else copied. Records are copied to the byte. A pair with a file that is
    missing is left out.

    Args:
        index: of the GenDB to copy from.
        selection: which pairs.
        output: folder to make; it must be missing or empty.

    Returns:
        How many pairs are in `output`, and those that are not, with their reasons.

    Raises:
        GenerationError: `output` is not empty, or no pair can be put there.
        OSError: a file cannot be written (disk full).
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise GenerationError(f"{output} exists and is not empty; name a new folder")
    written, lost = 0, []
    lines = index.lines(selection)  # before anything is written: a selection of nothing leaves no folder behind
    with atomic_write(output / "metadata.jsonl", "wb") as file:
        for line in lines:
            record = PairRecord.decode(line, str(index.metadata))
            try:
                _link_files(index.folder, output, record)
            except (ImageError, FileNotFoundError) as error:
                detail = {"file_name": record.file_name}
                lost.append(Reject(key=record.pair_id, kind="image", reason=str(error), detail=detail))
                continue
            file.write(line.rstrip(b"\r\n") + b"\n")
            written += 1
        if not written:
            raise GenerationError(f"none of {len(lost)} pairs has its files; the first: {lost[0].reason}")
    return written, lost


def _link_files(folder: Path, output: Path, record: PairRecord) -> None:
    """Link the image of a record and its sidecars. Raises ImageError: one is missing, or would lie elsewhere."""
    name = record.file_name
    files = [(images.resolve_below(folder, name), images.resolve_below(output, name))]
    for suffix in saving.recorded(name, record.sha256, record.settings).sidecars:
        files.append((saving.sidecar(folder, name, suffix), saving.sidecar(output, name, suffix)))
    # All are looked for before the first is linked, so that a pair which lacks a file leaves none in `output`.
    for source, _ in files:
        if not source.is_file():
            raise ImageError(f"{source}: no such file")
    for source, target in files:
        if target.exists():  # records may share a file
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)
