"""Step 1 from inputs to files: the door `extract_diverse_prompts.py` calls `filter_prompts(FilterConfig(...))`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from dyneval import storage
from dyneval.prompts import complexity, dedup, leakage, outputs, sources, tiers
from dyneval.prompts.analysis import analyse
from dyneval.prompts.clean import Cleaner
from dyneval.prompts.complexity import Floats
from dyneval.prompts.config import FilterConfig
from dyneval.prompts.drops import Drops
from dyneval.prompts.minhash import Shingled
from dyneval.prompts.table import RecordTable
from dyneval.records import TIERS

logger = logging.getLogger(__name__)


class FilterRun:
    """One run: the stages in order, what they dropped and how long they took."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self.sources = sources.find(config.inputs)
        self.rows_read = 0
        self.seconds: dict[str, float] = {}
        self.leaked: dict[str, int] = {}
        self._stack = ExitStack()

    def run(self) -> dict[str, Any]:
        """Run all stages and write all files; return the summary."""
        with self._stack:
            self._open_files()
            with self._timed("filter"):
                prompts = self._collect()
            with self._timed("score"):
                prompts, points, shingled = self._score(prompts)
            if shingled is not None:
                prompts = self._unrepeated(prompts, shingled)
                del shingled  # 640 MB for two million prompts
            prompts = self._tier(prompts)
        with self._timed("write"):
            outputs.write_prompts(self.config.output, prompts, RecordTable(prompts, points), self.config.jsonl)
        summary = self._summary(prompts)
        storage.write_json(self.config.output / outputs.SUMMARY, summary)
        return summary

    def _open_files(self) -> None:
        folder = self.config.output
        self._rejects = self._stack.enter_context(storage.atomic_write(folder / outputs.REJECTS, "wb"))
        wanted = self.config.write_dropped
        self.drops = Drops(
            self._stack.enter_context(storage.atomic_write(folder / outputs.DROPPED, "wb")) if wanted else None
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - begin, 2)
        logger.info("%s: %.1f s", stage, self.seconds[stage])

    def _bar(self, stage: str, total: int | None = None) -> tqdm:
        return tqdm(desc=stage, total=total, unit=" prompts", unit_scale=True, disable=not self.config.progress)

    def _collect(self) -> pl.DataFrame:
        cleaner = Cleaner(self.config.limits, self.drops)
        kept = [cleaner(rows) for rows in self._rows()]
        prompts = pl.concat(kept) if kept else pl.DataFrame()
        if prompts.is_empty():
            raise ValueError(f"none of {self.rows_read} rows is a usable prompt; dropped: {self.drops.summary()}")
        return prompts

    def _rows(self) -> Iterator[pl.DataFrame]:
        with self._bar("read") as bar:
            names = pl.Enum(sorted({source.name for source in self.sources}))
            for source in self.sources:
                for batch in sources.read(source, self.config.column, self.config.split):
                    outputs.write_rejects(self._rejects, batch.unreadable)
                    self.drops.count("unreadable", len(batch.unreadable))
                    rows = batch.rows.height + len(batch.unreadable)
                    self.rows_read += rows
                    bar.update(rows)
                    yield batch.rows.with_columns(pl.lit(source.name, names).alias("source"))

    def _score(self, prompts: pl.DataFrame) -> tuple[pl.DataFrame, Floats, Shingled | None]:
        """Add to each prompt its id, H, label set and row: its place in the factor values and shingles beside."""
        compare = self.config.dedup is not None or self.config.exclude
        with self._bar("score", len(prompts)) as bar:
            ids, points, labels, shingled = analyse(
                prompts["prompt"], self.config.seed if compare else None, self.config.label, bar.update
            )
        scored = prompts.with_columns(
            ids.alias("prompt_id"),
            pl.Series("labels", labels),
            pl.Series("complexity", complexity.complexity(points, complexity.load())),
            pl.int_range(len(prompts), dtype=pl.UInt32).alias("row"),
        )
        return scored, points, shingled

    def _unrepeated(self, prompts: pl.DataFrame, shingled: Shingled) -> pl.DataFrame:
        """Drop what is near to a benchmark prompt, then what is near to a kept prompt."""
        config = self.config
        if config.exclude:
            with self._timed("exclude"):
                found = leakage.find(shingled, prompts, config)
                self.leaked = leakage.write(config.output, found)
                self.drops.add("excluded", _dropped(found))
            clean = np.ones(len(prompts), bool)
            clean[found["row"].to_numpy()] = False
            prompts, shingled = prompts.filter(clean), shingled.take(clean)
        if config.dedup is None:
            return prompts
        with self._timed("deduplicate"):
            leader = dedup.find_leaders(shingled, _keys(prompts), config.dedup)
        ids = prompts["prompt_id"].gather(leader).alias("cluster_id")
        prompts = prompts.with_columns(ids, pl.len().over(ids).alias("cluster_size"))
        outputs.write_clusters(config.output, prompts)
        kept = prompts.filter(pl.col("prompt_id") == pl.col("cluster_id"))
        self.drops.add("near_duplicate", _dropped(prompts.filter(pl.col("prompt_id") != pl.col("cluster_id"))))
        return kept

    def _tier(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Give every prompt its tier and put the prompts in the order of the output."""
        config = self.config
        h = prompts["complexity"].to_numpy()
        if config.tiering == "threshold":
            tier = tiers.by_threshold(h, config.tau_1, config.tau_2)
        else:
            tier = tiers.by_rank(h, _keys(prompts))
        prompts = prompts.with_columns(pl.Series("tier", tier))
        self.drops.add("between_tiers", _dropped(prompts.filter(pl.col("tier") == tiers.NO_TIER)))
        # The id is a hash of the text, so this order is a shuffle that does not depend on the input's order: any
        # first n lines of a tier file are a fair sample of it.
        return prompts.filter(pl.col("tier") != tiers.NO_TIER).sort("tier", "prompt_id")

    def _summary(self, prompts: pl.DataFrame) -> dict[str, Any]:
        h = prompts["complexity"].to_numpy()
        return {
            "config": self.config.to_dict(),
            "sources": [source.item for source in self.sources],
            "rows_read": self.rows_read,
            "dropped": self.drops.summary(),
            "leaked": self.leaked,
            "kept": prompts.height,
            "tiers": {str(tier): int((prompts["tier"] == tier).sum()) for tier in TIERS},
            "complexity": {f"p{q}": round(float(np.percentile(h, q)), 2) for q in (0, 10, 25, 50, 75, 90, 100)},
            "seconds": self.seconds,
        }


def _dropped(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of a dropped row that are worth keeping."""
    return rows.select(c for c in ("prompt", "source", "prompt_id", "cluster_id") if c in rows.columns)


def _keys(prompts: pl.DataFrame) -> np.ndarray:
    """(prompts,) the ids as numbers: distinct, and a function of the text alone."""
    return prompts["prompt_id"].str.slice(1).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()


def filter_prompts(config: FilterConfig) -> dict[str, Any]:
    """Read, clean, score, tier and write prompts; return the summary that is also written to summary.json.

    Raises:
        SourceError: an input cannot be read.
        ValueError: no prompt was left.
    """
    return FilterRun(config).run()
