"""Speed and memory of Step 1 on DiffusionDB-like prompts, beside a plain Python implementation of the same factors.

    python benchmarks/prompt_filter.py                  # 1.8 M prompts and 14 M rows: about five minutes, 3 GB of disk
    python benchmarks/prompt_filter.py --rows 200000 --large-rows 1000000
    python benchmarks/prompt_filter.py --tasks everything --repeat 3

Prompts are made by recombining clauses of `data/labelled_prompts.jsonl` and, where it is there, of the real prompts in
`../shared/data/real_prompts_500.txt`; one in four is a near-duplicate of another.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
from harness import Cost, Flags, Results, alone, alternate, timed
from polars.io.plugins import register_io_source

HERE = Path(__file__).resolve().parent
# Real prompts may lie beside the repository, to which they do not belong. Figures of both kinds of data differ.
SHARED = HERE.parents[1] / "shared" / "data" / "real_prompts_500.txt"
STYLE = (
    "highly detailed", "digital painting", "artstation", "concept art", "sharp focus", "illustration", "8 k", "4k",
    "octane render", "intricate", "elegant", "smooth", "unreal engine 5", "cinematic lighting", "featured on pixiv",
    "art by greg rutkowski and alphonse mucha", "by wlop", "oil painting", "volumetric light", "matte painting", "35mm",
    "photorealistic", "dramatic lighting", "hyper realistic", "masterpiece", "award winning", "fantasy", "by artgerm",
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Data


def make_prompts(count: int, seed: int = 7) -> pl.Series:
    """Make `count` distinct prompts of about 160 characters."""
    own = [json.loads(line)["prompt"] for line in (HERE / "data" / "labelled_prompts.jsonl").open(encoding="utf-8")]
    real = SHARED.read_text("utf-8").splitlines() if SHARED.exists() else []
    texts = [[part.strip() for part in text.split(",") if part.strip()] for text in own + real]
    # Sorted, since the order of a set differs from run to run.
    heads = sorted({parts[0] for parts in texts if parts})
    tails = sorted({part for parts in texts for part in parts[1:]} | set(STYLE))
    random, made = np.random.default_rng(seed), pl.Series([], dtype=pl.String)
    # A few clauses are in most prompts and most are in few, as with DiffusionDB users.
    weights = 1 / np.arange(1, len(tails) + 1) ** 0.8
    order = random.permutation(len(tails))
    while len(made) < count:
        # Some are drawn twice and fall away, hence a few more; at most 200,000 at once, for their memory.
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

    # Made while they are written: 14 million rows at once would take several GiB.
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
    # A power above 1 draws the first prompts more often than the others.
    drawn = (len(frame) * random.random(rows) ** 1.5).astype(np.int64)
    seeds = pl.Series(random.integers(0, 2**32, rows), dtype=pl.UInt32)
    return frame[drawn].with_columns(
        image_name=pl.format("{}.webp", seeds), part_id=(seeds % 14_000).cast(pl.UInt16), seed=seeds,
        step=pl.lit(50, pl.UInt16), cfg=pl.lit(7.0, pl.Float32), sampler=pl.lit(8, pl.UInt8),
        width=pl.lit(512, pl.UInt16), height=pl.lit(512, pl.UInt16), user_name=seeds.hash().cast(pl.String),
        timestamp=pl.lit("2022-08-20"),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Baseline: the same nine factors, one prompt at a time. The tests hold the array code to it too.


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


def filter_file(folder: Path, name: str, **options: object) -> dict:
    """Run Step 1 on a file; returns the counts and seconds of its summary."""
    from dyneval.prompts.config import FilterConfig
    from dyneval.prompts.pipeline import filter_prompts

    with tempfile.TemporaryDirectory(dir=folder) as output:
        config = FilterConfig(inputs=(str(folder / name),), output=Path(output), progress=False, **options)
        summary = filter_prompts(config)
    return {key: summary[key] for key in ("rows_read", "kept", "tiers")} | {"stages": summary["seconds"]}


def run_distinct(folder: Path) -> dict:
    """From the rows of a file like metadata-large to distinct prompts."""
    from dyneval.prompts import sources
    from dyneval.prompts.clean import Cleaner, Limits
    from dyneval.prompts.filters import Drops

    cleaner = Cleaner(Limits(), Drops())
    source = sources.Source(str(folder / "large.parquet"), folder / "large.parquet")
    return {"distinct": sum(cleaner(batch.rows).height for batch in sources.read(source))}


def run_scores(folder: Path) -> dict:
    """Our scores of a sample, beside those of the plain scorer: the same to the last bit."""
    from dyneval.prompts import complexity
    from dyneval.prompts.analysis import analyse

    prompts = pl.read_parquet(folder / "prompts.parquet", columns=["prompt"], n_rows=200_000)["prompt"]
    # The first call compiles the patterns.
    analyse(prompts[:1000], None, label=False)
    with timed() as fast:
        ours = complexity.complexity(analyse(prompts, None, label=False).points, complexity.load())
    plain, listed = PlainScorer(), prompts.to_list()
    with timed() as slow:
        theirs = np.array([plain(prompt) for prompt in listed])
    return {
        "prompts": len(listed),
        "ours_s": round(fast.wall, 2),
        "plain_s": round(slow.wall, 2),
        "times_faster": round(slow.wall / fast.wall, 1),
        "identical": bool((ours == theirs).all()),
    }


def run_selection(folder: Path) -> dict:
    """Select one prompt in ten, beside a random tenth: tiers, rare categories, and how much the chosen repeat."""
    from dyneval.prompts import complexity, selection
    from dyneval.prompts.analysis import analyse

    prompts = pl.read_parquet(folder / "prompts.parquet", columns=["prompt"], n_rows=400_000)["prompt"]
    found = analyse(prompts, 42)
    tier = complexity.tiers_by_threshold(complexity.complexity(found.points, complexity.load()))
    keys, count = np.random.default_rng(0).permutation(len(prompts)).astype(np.uint64), len(prompts) // 10
    with timed() as usage:
        chosen = selection.select(count, tier, found.labels, found.shingled.signatures, keys, 42)
    described: dict = {"select_s": round(usage.wall, 2)}
    # The keys are a permutation, so those below `count` are a random tenth.
    for name, some in (("selected", chosen), ("random", keys < count)):
        labels = found.labels[some]
        counts = sorted(int(np.count_nonzero(labels & np.uint64(1 << bit))) for bit in range(42))
        # 8 of the 64 MinHash values of a prompt: enough to see repetition.
        values = found.shingled.signatures[some][:, :8]
        alike = np.mean([1 - len(np.unique(column)) / len(column) for column in values.T])
        described[name] = {
            "tiers": np.bincount(tier[some], minlength=4)[1:].tolist(),
            "five_rarest_categories": counts[:5],
            "prompts_sharing_a_minhash": round(float(alike), 3),
        }
    return described


TASKS = {
    "scores": run_scores,
    # Filter, score and tier, with all files written, but without near-duplicates and categories.
    "score_and_tier": partial(filter_file, name="prompts.parquet", dedup=None, labeller="none"),
    "everything": partial(filter_file, name="prompts.parquet"),
    "distinct": run_distinct,
    "everything_large": partial(filter_file, name="large.parquet"),
    "selection": run_selection,
}


def measure(task: str, folder: Path) -> tuple[Cost, dict]:
    """Run one task; what it took, without the start of Python, and what it found."""
    with timed() as usage:
        found = TASKS[task](folder)
    return usage, found


def main() -> None:
    """Make the data, run every task and print a row for each."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("--rows", type=int, default=1_800_000, smoke=2000)
    flags.add_argument("--large-rows", type=int, default=14_000_000, smoke=5000)
    flags.add_argument("--folder", type=Path, help="keep the data here and use it again")
    flags.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table({"task": "", "wall s": ".2f", "CPU s": ".2f", "peak GiB": ".2f", "found": ""})
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "large.parquet").exists():
            write_data(folder, arguments.rows, arguments.large_rows)
        for task in arguments.tasks:
            runs = alternate({task: lambda task=task: alone(measure, task, folder)}, arguments.repeat)[task]
            usages = [usage for usage, _ in runs]
            figures = [[one.wall for one in usages], [one.cpu for one in usages], [one.peak / 1024 for one in usages]]
            results.row(task, *figures, json.dumps(runs[-1][1]))


if __name__ == "__main__":
    main()
