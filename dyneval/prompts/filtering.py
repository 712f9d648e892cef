"""Step 1 from inputs to files: the door `extract_diverse_prompts.py` calls `filter_prompts(FilterConfig(...))`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from dyneval import storage
from dyneval.prompts import complexity, outputs, sources, tiers
from dyneval.prompts.clean import Cleaner, Limits
from dyneval.prompts.drops import Drops
from dyneval.prompts.scoring import factor_values
from dyneval.records import TIERS, prompt_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """Everything that decides what Step 1 writes; saved in summary.json."""

    inputs: tuple[str, ...]
    """Files, globs, folders or Hugging Face dataset ids."""
    output: Path
    column: str = "prompt"
    split: str = "train"
    limits: Limits = field(default_factory=Limits)
    tiering: tiers.TierMode = "threshold"
    tau_1: float = tiers.TAU_1
    tau_2: float = tiers.TAU_2
    seed: int = 42
    jsonl: bool = False
    write_dropped: bool = False
    progress: bool = True


class FilterRun:
    """One run: the stages in order, what they dropped and how long they took."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self.sources = sources.find(config.inputs)
        self.rows_read = 0
        self.seconds: dict[str, float] = {}
        self._stack = ExitStack()

    def run(self) -> dict[str, Any]:
        """Run all stages and write all files; return the summary."""
        with self._stack:
            self._open_files()
            with self._timed("filter"):
                prompts = self._collect()
            with self._timed("score"):
                prompts = self._score(prompts)
            prompts = self._tier(prompts)
        with self._timed("write"):
            outputs.write_prompts(self.config.output, self._records(prompts), self.config.jsonl)
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

    def _collect(self) -> pl.DataFrame:
        cleaner = Cleaner(self.config.limits, self.drops)
        kept = [cleaner(rows) for rows in self._rows()]
        prompts = pl.concat(kept) if kept else pl.DataFrame()
        if prompts.is_empty():
            raise ValueError(f"none of {self.rows_read} rows is a usable prompt; dropped: {self.drops.summary()}")
        return prompts

    def _rows(self) -> Iterator[pl.DataFrame]:
        with tqdm(desc="read", unit=" rows", unit_scale=True, disable=not self.config.progress) as bar:
            for number, source in enumerate(self.sources):
                for batch in sources.read(source, self.config.column, self.config.split):
                    outputs.write_rejects(self._rejects, batch.unreadable)
                    self.drops.count("unreadable", len(batch.unreadable))
                    rows = batch.rows.height + len(batch.unreadable)
                    self.rows_read += rows
                    bar.update(rows)
                    yield batch.rows.with_columns(pl.lit(number, pl.UInt16).alias("source"))

    def _score(self, prompts: pl.DataFrame) -> pl.DataFrame:
        factors = complexity.load()
        with tqdm(desc="score", total=len(prompts), unit=" prompts", disable=not self.config.progress) as bar:
            points = factor_values(prompts["prompt"], bar.update)
        return prompts.with_columns(
            pl.Series("prompt_id", list(map(prompt_id, prompts["prompt"])), pl.String),
            pl.Series("complexity", complexity.complexity(points, factors)),
            *(pl.Series(name, points[:, column]) for column, name in enumerate(factors.names)),
        )

    def _tier(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Give every prompt its tier and put the prompts in the order of the output."""
        config = self.config
        h = prompts["complexity"].to_numpy()
        if config.tiering == "threshold":
            tier = tiers.by_threshold(h, config.tau_1, config.tau_2)
        else:
            tier = tiers.by_rank(h, prompts["prompt_id"].to_numpy())
        prompts = prompts.with_columns(pl.Series("tier", tier))
        left_out = prompts.filter(pl.col("tier") == tiers.NO_TIER)
        self.drops.add("between_tiers", left_out.select("prompt", "source"))
        # The id is a hash of the text, so this order is a shuffle that does not depend on the input's order: any
        # first n lines of a tier file are a fair sample of it.
        return prompts.filter(pl.col("tier") != tiers.NO_TIER).sort("tier", "prompt_id")

    def _records(self, prompts: pl.DataFrame) -> pl.DataFrame:
        names = pl.Series([source.name for source in self.sources], dtype=pl.String)
        return prompts.select(
            "prompt_id",
            "prompt",
            "complexity",
            pl.struct(complexity.load().names).alias("factors"),
            "tier",
            pl.lit([], pl.List(pl.String)).alias("categories"),
            pl.Series("source", names.gather(prompts["source"].to_numpy())),
        )

    def _summary(self, prompts: pl.DataFrame) -> dict[str, Any]:
        h = prompts["complexity"].to_numpy()
        return {
            "config": asdict(self.config) | {"output": str(self.config.output)},
            "sources": [source.item for source in self.sources],
            "rows_read": self.rows_read,
            "dropped": self.drops.summary(),
            "kept": prompts.height,
            "tiers": {str(tier): int((prompts["tier"] == tier).sum()) for tier in TIERS},
            "complexity": {f"p{q}": round(float(np.percentile(h, q)), 2) for q in (0, 10, 25, 50, 75, 90, 100)},
            "seconds": self.seconds,
        }


def filter_prompts(config: FilterConfig) -> dict[str, Any]:
    """Read, clean, score, tier and write prompts; return the summary that is also written to summary.json.

    Raises:
        SourceError: an input cannot be read.
        ValueError: no prompt was left, or the configuration contradicts itself.
    """
    return FilterRun(config).run()
