"""Speed and memory of Step 1 on DiffusionDB-like prompts, beside a plain Python implementation of the same factors.

    python benchmarks/prompt_filter.py                  # 1.8 M prompts and 14 M rows: about five minutes, 3 GB of disk
    python benchmarks/prompt_filter.py --rows 200000 --large-rows 1000000
    python benchmarks/prompt_filter.py --libraries      # near-duplicates beside rensa, datasketch and semhash

Prompts are made by recombining clauses of `data/labelled_prompts.jsonl` and, where it is there, of the real prompts in
`../shared/data/real_prompts_500.txt`; one in four is a near-duplicate of another.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "data" / "real_prompts_500.txt"
STYLE = (
    "highly detailed", "digital painting", "artstation", "concept art", "sharp focus", "illustration", "8 k", "4k",
    "octane render", "intricate", "elegant", "smooth", "unreal engine 5", "cinematic lighting", "featured on pixiv",
    "art by greg rutkowski and alphonse mucha", "by wlop", "oil painting", "volumetric light", "matte painting", "35mm",
    "photorealistic", "dramatic lighting", "hyper realistic", "masterpiece", "award winning", "fantasy", "by artgerm",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Data


def clauses() -> tuple[list[str], list[str]]:
    """Beginnings of prompts and the clauses that may follow."""
    own = [json.loads(line)["prompt"] for line in (HERE / "data" / "labelled_prompts.jsonl").open(encoding="utf-8")]
    real = SHARED.read_text("utf-8").splitlines() if SHARED.exists() else []
    texts = [[part.strip() for part in text.split(",") if part.strip()] for text in own + real]
    heads = sorted({parts[0] for parts in texts if parts})
    return heads, sorted({part for parts in texts for part in parts[1:]} | set(STYLE))


def make_prompts(count: int, seed: int = 7) -> pl.Series:
    """Make `count` distinct prompts of about 160 characters."""
    heads, tails = clauses()
    random, made = np.random.default_rng(seed), pl.Series([], dtype=pl.String)
    # A few clauses are in most prompts and most are in few, as with DiffusionDB users.
    weights = 1 / np.arange(1, len(tails) + 1) ** 0.8
    order = random.permutation(len(tails))
    while len(made) < count:
        rows = min(200_000, int((count - len(made)) * 1.2) + 1000)
        head = pl.Series(heads)[random.integers(0, len(heads), rows)]
        picks = order[random.choice(len(tails), (rows, 9), p=weights / weights.sum())]
        keep = np.arange(9) < random.integers(2, 10, rows)[:, None]
        columns = [pl.Series(tails)[picks[:, i]].zip_with(pl.Series(keep[:, i]), pl.Series([None])) for i in range(9)]
        frame = pl.DataFrame({"head": head, **{f"c{i}": column for i, column in enumerate(columns)}})
        fresh = frame.select(pl.concat_str("head", pl.exclude("head"), separator=", ", ignore_nulls=True)).to_series()
        near = fresh[: rows // 3] + pl.Series([", hd", ", hq", " 2", ", wow"])[random.integers(0, 4, rows // 3)]
        made = pl.concat([made, fresh, near]).unique(maintain_order=True)
    return made.sample(count, shuffle=True, seed=seed)


def write_data(folder: Path, rows: int, large_rows: int) -> None:
    """Write prompts.parquet, a prompt a row, and large.parquet in the shape of metadata-large, a row an image."""
    random = np.random.default_rng(11)
    frame = pl.DataFrame({"prompt": make_prompts(rows)})
    frame = frame.with_columns(
        prompt_nsfw=pl.Series(random.beta(0.3, 6, rows), dtype=pl.Float32), image_nsfw=pl.lit(0.1, pl.Float32)
    )
    frame.write_parquet(folder / "prompts.parquet", row_group_size=250_000)

    def batches(columns: list[str] | None, *_: object) -> Iterator[pl.DataFrame]:
        left = large_rows
        while left:
            batch = _images(frame, min(left, 500_000), random)
            left -= len(batch)
            yield batch.select(columns) if columns else batch

    source = register_io_source(batches, schema=_images(frame, 1, random).schema)
    source.sink_parquet(folder / "large.parquet", row_group_size=500_000)


def _images(frame: pl.DataFrame, rows: int, random: np.random.Generator) -> pl.DataFrame:
    """Rows of images of prompts drawn at random, the repeats of a prompt anywhere in the file, a few prompts often."""
    drawn = (len(frame) * random.random(rows) ** 1.5).astype(np.int64)
    seeds = pl.Series(random.integers(0, 2**32, rows), dtype=pl.UInt32)
    return frame[drawn].with_columns(
        image_name=pl.format("{}.webp", seeds), part_id=(seeds % 14_000).cast(pl.UInt16), seed=seeds,
        step=pl.lit(50, pl.UInt16), cfg=pl.lit(7.0, pl.Float32), sampler=pl.lit(8, pl.UInt8),
        width=pl.lit(512, pl.UInt16), height=pl.lit(512, pl.UInt16), user_name=seeds.hash().cast(pl.String),
        timestamp=pl.lit("2022-08-20"),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Baseline: the same nine factors, one prompt at a time


class PlainScorer:
    """The nine factors with `re` and dictionaries."""

    def __init__(self) -> None:
        from dyneval.prompts import complexity, wordlists
        from dyneval.prompts.text import FOLD, SIGNS, SINGLE_QUOTES

        self.quotes, self.signs = re.compile(SINGLE_QUOTES), re.compile(SIGNS)
        self.factors = complexity.load()
        self.fold = str.maketrans(FOLD)
        self.entries = wordlists.load()
        self.longest: dict[str, int] = {}
        for words in self.entries:
            self.longest[words[0]] = max(self.longest.get(words[0], 1), len(words))
        self.token = re.compile(r"[0-9a-z\x80-\U0010ffff]+|[^\x00-\x20'_-]")
        self.is_word = re.compile(r"[0-9a-z\x80-\U0010ffff]")
        self.lower = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}

    def __call__(self, prompt: str) -> float:
        """H of a prompt."""
        folded = self.quotes.sub(r'\1"\2"\3', prompt.translate(self.fold))
        tokens = self.token.findall(self.signs.sub(r" \g<0> ", folded).translate(self.lower))
        words = sum(1 for token in tokens if self.is_word.match(token))
        found = list(self.units(tokens))
        total = 0.0
        for factor in self.factors.items:
            count = words if "word" in factor.tags else sum(self.worth(entry, factor.tags) for entry in found)
            total += factor.weight * min(100.0 * count / factor.reference, self.factors.cap)
        return total

    @cache  # noqa: B019  one scorer a process
    def worth(self, words: tuple[str, ...], tags: tuple[str, ...]) -> int:
        """How often an entry counts: once for its tags, and no less often than its beginnings."""
        beginnings = (self.units(words[:end]) for end in range(1, len(words)))
        least = max((sum(self.worth(entry, tags) for entry in entries) for entries in beginnings), default=0)
        return max(least, not self.entries[words].isdisjoint(tags))

    def units(self, tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Every listed unit, the longest phrase first."""
        place = 0
        while place < len(tokens):
            for length in range(self.longest.get(tokens[place], 1), 0, -1):
                words = tuple(tokens[place : place + length])
                if words in self.entries:
                    yield words
                    place += length
                    break
            else:
                place += 1


# ---------------------------------------------------------------------------------------------------------------------
# Measurements, each in a process of its own


def peak_gib() -> float:
    """Most memory this process held; ru_maxrss would say what its parent held before the start."""
    status = Path("/proc/self/status").read_text("utf-8")
    return round(int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 2**20, 2)


def measure(task: str, folder: Path) -> dict:
    """Run one task: wall and CPU seconds, the machine's load (2 cores are busy at 2), and the most memory."""
    begin = time.perf_counter()
    result = TASKS[task](folder)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "load": round(os.getloadavg()[0], 1),
        "peak_gib": peak_gib(),
        **result,
    }


def _filter(folder: Path, name: str, **options: object) -> dict:
    from dyneval.prompts.config import FilterConfig
    from dyneval.prompts.pipeline import filter_prompts

    with tempfile.TemporaryDirectory(dir=folder) as output:
        config = FilterConfig(inputs=(str(folder / name),), output=Path(output), progress=False, **options)
        summary = filter_prompts(config)
    return {key: summary[key] for key in ("rows_read", "kept", "tiers", "seconds")} | {"stages": summary["seconds"]}


def run_score_and_tier(folder: Path) -> dict:
    """Filter, score and tier, with all files written."""
    return _without_seconds(_filter(folder, "prompts.parquet", dedup=None, labeller="none"))


def run_everything(folder: Path) -> dict:
    """The whole run, with near-duplicates and categories."""
    return _without_seconds(_filter(folder, "prompts.parquet"))


def run_distinct(folder: Path) -> dict:
    """From the rows of a file like metadata-large to distinct prompts."""
    from dyneval.prompts import sources
    from dyneval.prompts.clean import Cleaner, Limits
    from dyneval.prompts.filters import Drops

    cleaner = Cleaner(Limits(), Drops())
    source = sources.Source(str(folder / "large.parquet"), folder / "large.parquet")
    return {"distinct": sum(cleaner(batch.rows).height for batch in sources.read(source))}


def run_everything_large(folder: Path) -> dict:
    """The whole run on the rows of a file like metadata-large."""
    return _without_seconds(_filter(folder, "large.parquet"))


def run_scores(folder: Path) -> dict:
    """Our scores of a sample, beside those of the plain scorer: the same to the last bit."""
    from dyneval.prompts import complexity
    from dyneval.prompts.analysis import analyse

    prompts = pl.read_parquet(folder / "prompts.parquet", columns=["prompt"], n_rows=200_000)["prompt"]
    analyse(prompts[:1000], None, label=False)
    begin = time.perf_counter()
    ours = complexity.complexity(analyse(prompts, None, label=False).points, complexity.load())
    fast = time.perf_counter() - begin
    plain, listed = PlainScorer(), prompts.to_list()
    begin = time.perf_counter()
    theirs = np.array([plain(prompt) for prompt in listed])
    slow = time.perf_counter() - begin
    return {
        "prompts": len(listed), "ours_s": round(fast, 2), "plain_s": round(slow, 2),
        "times_faster": round(slow / fast, 1), "identical": bool((ours == theirs).all()),
    }  # fmt: skip


def run_selection(folder: Path) -> dict:
    """Select one prompt in ten, beside a random tenth: tiers, rare categories, and how much the chosen repeat."""
    from dyneval.prompts import complexity, selection
    from dyneval.prompts.analysis import analyse

    prompts = pl.read_parquet(folder / "prompts.parquet", columns=["prompt"], n_rows=400_000)["prompt"]
    found = analyse(prompts, 42)
    tier = complexity.tiers_by_threshold(complexity.complexity(found.points, complexity.load()))
    keys, count = np.random.default_rng(0).permutation(len(prompts)).astype(np.uint64), len(prompts) // 10
    begin = time.perf_counter()
    chosen = selection.select(count, tier, found.labels, found.shingled.signatures, keys, 42)
    seconds = round(time.perf_counter() - begin, 2)
    return {
        "select_s": seconds,
        "selected": _describe(found, tier, chosen),
        "random": _describe(found, tier, keys < count),
    }


def _describe(found: object, tier: np.ndarray, chosen: np.ndarray) -> dict:
    labels = found.labels[chosen]
    counts = sorted(int(np.count_nonzero(labels & np.uint64(1 << bit))) for bit in range(42))
    values = found.shingled.signatures[chosen][:, :8]
    alike = np.mean([1 - len(np.unique(column)) / len(column) for column in values.T])
    return {
        "tiers": np.bincount(tier[chosen], minlength=4)[1:].tolist(),
        "five_rarest_categories": counts[:5],
        "prompts_sharing_a_minhash": round(float(alike), 3),
    }


def _without_seconds(result: dict) -> dict:
    return {key: value for key, value in result.items() if key != "seconds"}


TASKS = {
    "scores": run_scores,
    "score_and_tier": run_score_and_tier,
    "everything": run_everything,
    "distinct": run_distinct,
    "everything_large": run_everything_large,
    "selection": run_selection,
}


def main() -> None:
    """Make the data, run every task and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_800_000)
    parser.add_argument("--large-rows", type=int, default=14_000_000)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each task; the median is printed")
    parser.add_argument("--folder", type=Path, help="keep the data here and use it again")
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(json.dumps(measure(args.task, args.folder)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "large.parquet").exists():
            write_data(folder, args.rows, args.large_rows)
        for task in args.tasks:
            runs = [_in_process(task, folder) for _ in range(args.repeat)]
            median = statistics.median(run["seconds"] for run in runs)
            print(task, json.dumps(next(run for run in runs if run["seconds"] >= median)), flush=True)


def _in_process(task: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--task", task, "--folder", str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ}).stdout
    return json.loads(output.splitlines()[-1])


if __name__ == "__main__":
    main()
