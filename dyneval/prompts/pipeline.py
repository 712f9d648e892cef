"""Step 1 from inputs to files: `extract_diverse_prompts.py` calls `filter_prompts(FilterConfig(...))`.

The stages run one after the other over all prompts, not a batch through all stages: near-duplicates and tiers by rank
need every prompt at once. This file holds the order of the stages and lets go of their arrays; what a stage does stands
in the module of its name.

    from pathlib import Path
    from dyneval.prompts.config import FilterConfig
    from dyneval.prompts.pipeline import filter_prompts

    Path("prompts.txt").write_text("a red fox asleep on a mossy stone beside a stream")
    summary = filter_prompts(FilterConfig(inputs=("prompts.txt",), output=Path("prompts"), progress=False))
    print(summary["kept"], summary["tiers"])
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO

import numpy as np
import polars as pl

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write, exclusive, refuse_overwrite, write_summary
from dyneval.files.jsonl import to_line
from dyneval.prompts import complexity, dedup, filters, llm_labels, outputs, report, selection, sources
from dyneval.prompts.analysis import analyse, shingles
from dyneval.prompts.clean import Cleaner, clean_text
from dyneval.prompts.config import FilterConfig
from dyneval.prompts.filters import Drops
from dyneval.prompts.minhash import Shingled, jaccard
from dyneval.prompts.outputs import LEAKAGE, FilterSummary, summarise, writing
from dyneval.prompts.text import in_other_script
from dyneval.records import Reject, RunSummary
from dyneval.work import progress

logger = logging.getLogger(__name__)


class FilterRun:
    """One run: the stages in order, what they dropped and how long they took.

    Between the stages prompts are a frame with the columns prompt, source, prompt_id, complexity, labels and row; row
    is the prompt's place in the arrays of the analysis.
    """

    def __init__(self, config: FilterConfig) -> None:
        """Raises SourceError when an input or exclusion file does not exist, SettingError when it would be replaced."""
        self.config = config
        self._filters = [filters.parse(text) for text in config.filters]
        self.sources = sources.find(config.inputs)
        read = [*self.sources, *sources.find(config.exclude)]
        written = [config.output / name for name in (*outputs.FILES, llm_labels.FILE)]
        refuse_overwrite((source.path for source in read if source.path), written)
        self.rows_read = 0
        self.unreadable: list[Reject] = []
        """The first row that was no prompt, if there was one."""
        self.seconds: dict[str, float] = {}
        self.leaked: dict[str, int] = {}
        self.selection: dict[str, selection.Spread] = {}
        self.agreement: llm_labels.LabelAgreement | None = None

    def run(self) -> FilterSummary:
        """Run all stages and write all files; return the summary.

        Raises:
            DataFileError: an input cannot be read, no prompt was left, or another process writes into the same folder.
        """
        config, folder = self.config, self.config.output
        with exclusive(folder), ExitStack() as stack:
            # What an earlier run left and this one may not write again would contradict the new files.
            for name in (outputs.JSONL, outputs.DROPPED, outputs.CLUSTERS, outputs.LEAKAGE, outputs.REJECTS):
                (folder / name).unlink(missing_ok=True)
            rejects = stack.enter_context(atomic_write(folder / outputs.REJECTS, "wb"))
            dropped = None
            if config.write_dropped:
                dropped = stack.enter_context(atomic_write(folder / outputs.DROPPED, "wb"))
            self.drops = Drops(self._filters, dropped)
            with self._timed("filter"):
                cleaner = Cleaner(config.limits, self.drops, self._filters)
                kept = [cleaner(rows) for rows in self._rows(rejects)]
                prompts = pl.concat(kept) if kept else pl.DataFrame()
                # The batches would hold on to all texts, and the cleaner to all hashes, until the run is over.
                del kept, cleaner
            if prompts.is_empty():
                if not self.rows_read:
                    raise DataFileError(f"{', '.join(map(str, config.inputs))}: holds no prompts")
                message = f"none of {self.rows_read} rows is a usable prompt; dropped: {self.drops.summary()}"
                raise DataFileError(message + "".join(f"; first {bad.key}: {bad.reason}" for bad in self.unreadable))
            # Only runs that compare prompts need signatures, which take 256 bytes a prompt.
            compares = config.dedup is not None or config.exclude or config.count is not None
            bar = progress.bar("score", len(prompts), "prompts", is_quiet=not config.progress)
            with self._timed("score"), bar:
                seed = config.seed if compares else None
                analysis = analyse(prompts["prompt"], seed, config.labeller != "none", bar.update)
                prompts = prompts.with_columns(
                    analysis.ids.alias("prompt_id"),
                    pl.Series("labels", analysis.labels),
                    pl.Series("complexity", complexity.complexity(analysis.points, complexity.load())),
                    pl.int_range(len(prompts), dtype=pl.UInt32).alias("row"),
                )
            points, shingled = analysis.points, analysis.shingled
            # Each stage lets go of what no later one needs: 640 MB of shingles for two million prompts.
            del analysis
            sketch = shingled.signatures[:, : selection.FUNCTIONS].copy() if shingled and config.count else None
            if shingled is not None:
                prompts = self._unrepeated(prompts, shingled)
                del shingled
            prompts = self._tier(prompts)
            if sketch is not None:
                prompts = self._select(prompts, sketch)
            if config.labeller == "llm":
                prompts = self._label(prompts)
            if prompts.is_empty():
                raise DataFileError(f"no prompt was left of {self.rows_read} rows; dropped: {self.drops.summary()}")
            # Rejects and dropped rows are complete before the file that readers wait for is there.
            stack.close()
            if not (folder / outputs.REJECTS).stat().st_size:
                (folder / outputs.REJECTS).unlink()
            with self._timed("write"):
                outputs.write_prompts(folder, prompts, points, config.jsonl)
            summary = summarise(self, prompts)
            with atomic_write(folder / outputs.REPORT) as file:
                file.write(report.render(config, summary, prompts, self.drops))
            counts = RunSummary(made=summary["kept"], rejected=summary["rows_read"] - summary["kept"])
            # The summary comes last: a folder that has one is complete.
            write_summary(folder / outputs.SUMMARY, counts, summary)
        return summary

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Write down how long a stage takes, for summary.json and whoever looks for the slow one."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - begin, 2)
        logger.info("%s: %.1f s", stage, self.seconds[stage])

    def _rows(self, rejects: IO[bytes]) -> Iterator[pl.DataFrame]:
        """Yield the batches of all sources; what cannot be read is written to `rejects`."""
        # An Enum keeps the name of the source as a number a row, not as a text.
        names = pl.Enum(sorted({source.name for source in self.sources}))
        scores, unscored = pl.col("prompt_nsfw", "image_nsfw"), 0
        with progress.bar("read", None, "prompts", is_quiet=not self.config.progress) as bar:
            for source in self.sources:
                for batch in sources.read(source, self.config.column, self.config.split):
                    rejects.writelines(to_line(reject.row("key")) for reject in batch.unreadable)
                    self.unreadable = (self.unreadable or batch.unreadable)[:1]
                    self.drops.counts["unreadable"] += len(batch.unreadable)
                    rows = batch.rows.height + len(batch.unreadable)
                    self.rows_read += rows
                    unscored += int(batch.rows.select(pl.all_horizontal(scores.is_null())).to_series().sum())
                    bar.update(rows)
                    yield batch.rows.with_columns(pl.lit(source.name, names).alias("source"))
        if unscored and "nsfw-words" not in {one.name for one in self._filters}:
            told = (
                "%d of %d rows have no NSFW score, so no limit held for them; --filter nsfw-words looks at their words"
            )
            logger.warning(told, unscored, self.rows_read)

    def _unrepeated(self, prompts: pl.DataFrame, shingled: Shingled) -> pl.DataFrame:
        """Drop what is near to a benchmark prompt, then what is near to a kept prompt."""
        config = self.config
        if config.exclude:
            with self._timed("exclude"):
                found = find_leaked(shingled, prompts, config)
                leaks = found.sort("benchmark", "prompt_id").select(pl.exclude("row"))
                with writing(config.output / LEAKAGE) as file:
                    leaks.write_ndjson(file)
                self.leaked = dict(leaks["benchmark"].value_counts().sort("benchmark").iter_rows())
            clean = ~np.isin(np.arange(len(prompts)), found["row"].to_numpy())
            prompts, shingled = self.drops.keep("excluded", prompts, pl.Series(clean)), shingled.take(clean)
        if config.dedup is None:
            return prompts
        with self._timed("deduplicate"):
            leader = dedup.find_leaders(shingled, _keys(prompts), config.dedup)
        prompts = prompts.with_columns(
            prompts["prompt_id"].gather(leader).alias("cluster_id"),
            pl.Series("cluster_size", np.bincount(leader, minlength=len(leader))[leader], pl.UInt32),
        )
        # The members of every cluster; cluster_id is the prompt_id of the one that is kept.
        clusters = prompts.filter(pl.col("cluster_size") > 1).select("cluster_id", "prompt_id", "prompt")
        with writing(config.output / outputs.CLUSTERS) as file:
            clusters.sort("cluster_id", "prompt_id").write_parquet(file)
        return self.drops.keep("near_duplicate", prompts, pl.Series(leader == np.arange(len(leader))))

    def _tier(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Give every prompt its tier and put the prompts in the order of the output."""
        config = self.config
        h = prompts["complexity"].to_numpy()
        if config.tiering == "threshold":
            tier = complexity.tiers_by_threshold(h, config.tau_1, config.tau_2)
        else:
            tier = complexity.tiers_by_rank(h, _keys(prompts))
        prompts = prompts.with_columns(pl.Series("tier", tier))
        tiered = self.drops.keep("between_tiers", prompts, pl.Series(tier != complexity.NO_TIER))
        return complexity.in_tier_order(tiered, config.tiering, config.seed)

    def _select(self, prompts: pl.DataFrame, sketch: np.ndarray) -> pl.DataFrame:
        """Keep `count` prompts; sketch is of the prompts before near-duplicates were dropped, so it goes by `row`."""
        config = self.config
        assert config.count is not None
        if config.count > len(prompts):
            logger.warning("--count asks for %d prompts, and %d are there: all are kept", config.count, len(prompts))
        labels, sketch = prompts["labels"].to_numpy(), sketch[prompts["row"].to_numpy()]
        with self._timed("select"):
            keys, tier = _keys(prompts), prompts["tier"].to_numpy()
            chosen = selection.select(config.count, tier, labels, sketch, keys, config.seed, config.balance)
            self.selection = selection.gains(prompts["prompt"], labels, sketch, keys, chosen, config.seed)
        return self.drops.keep("not_selected", prompts, pl.Series(chosen))

    def _label(self, prompts: pl.DataFrame) -> pl.DataFrame:
        """Replace the rules' labels by the model's; prompts that it gave none are dropped."""
        with self._timed("label"):
            labels, known = llm_labels.label_frame(prompts, self.config)
        # Prompts that the rules cannot read have no labels of theirs to compare.
        both = known & ~in_other_script(prompts["prompt"])
        self.agreement = llm_labels.agreement(prompts["labels"].to_numpy()[both], labels[both])
        return self.drops.keep("unlabelled", prompts.with_columns(pl.Series("labels", labels)), pl.Series(known))


def _keys(prompts: pl.DataFrame) -> np.ndarray:
    """(prompts,) the ids as numbers: distinct, and a function of the text alone."""
    return prompts["prompt_id"].str.slice(1).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()


def filter_prompts(config: FilterConfig) -> FilterSummary:
    """Read, clean, score, tier, categorise and write prompts; return the summary that is also written.

    Raises:
        SourceError: there is no such input.
        SettingError: an input would be overwritten.
        DataFileError: an input cannot be read, no prompt was left, or another process writes into the same folder.
    """
    return FilterRun(config).run()


def find_leaked(shingled: Shingled, prompts: pl.DataFrame, config: FilterConfig) -> pl.DataFrame:
    """Find the prompts that an exclusion file forbids.

    Args:
        shingled: Of `prompts`, in the same order.
        prompts: With their columns prompt_id and prompt.
        config: Names the exclusion files, their column and the threshold.

    Returns:
        Their rows: row (number in `prompts`), prompt_id, prompt and, of the benchmark prompt that each is most
        similar to, benchmark (file), benchmark_prompt and jaccard (0-1).

    Raises:
        SourceError: an exclusion file cannot be read.
    """
    empty = pl.DataFrame(schema={"benchmark": pl.String, "benchmark_prompt": pl.String})
    found = [
        batch.rows.select(
            pl.lit(source.name).alias("benchmark"), clean_text(pl.col("prompt")).alias("benchmark_prompt")
        )
        for source in sources.find(config.exclude)
        for batch in sources.read(source, config.exclude_column or config.column, config.split)
    ]
    # Without the limits of `Cleaner`: a benchmark's prompt of ten characters is as much of a leak as a long one.
    others = pl.concat([empty, *found]).drop_nulls().unique(subset="benchmark_prompt", maintain_order=True)
    signed = shingles(others["benchmark_prompt"], config.seed)
    mine, theirs = dedup.matches(shingled, signed, config.dedup or dedup.DEFAULT_THRESHOLD)
    return pl.concat(
        [
            pl.DataFrame({"row": mine, "jaccard": jaccard(shingled, mine, signed, theirs).round(4)}),
            prompts[mine].select("prompt_id", "prompt"),
            others[theirs],
        ],
        how="horizontal",
    )
