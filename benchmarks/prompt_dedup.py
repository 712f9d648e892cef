"""Near-duplicates of Step 1 beside libraries that could find them: time, memory, and how well each does.

    pip install rensa datasketch
    python benchmarks/prompt_dedup.py --rows 200000

Every method gets the same prompts, the same shingles (pairs of neighbouring words) and the same threshold (Jaccard
similarity 0.8), and keeps one of each group. Near left: kept prompts that still have a kept near-duplicate, found with
other hash functions and more bands. Wrong: of 2,000 dropped prompts, those that no kept one is near to.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from harness import Cost, Flags, Results, alone, alternate, timed
from prompt_filter import make_prompts

# 64 hash functions in 16 bands of 4, for all methods that take them.
THRESHOLD, PERMUTATIONS = 0.8, 64
WORD = re.compile(r"[0-9a-z\x80-\U0010ffff]+")


def pairs(prompt: str) -> list[str]:
    """Shingles of a prompt as strings, for the libraries. The first word is one by itself, as in `shingles`."""
    words = WORD.findall(prompt.lower())
    return [f"{a} {b}" for a, b in zip(["", *words], words, strict=False)]


def ours(prompts: pl.Series) -> np.ndarray:
    """This project's: numpy on two threads, verified exactly."""
    from dyneval.prompts.analysis import shingles
    from dyneval.prompts.dedup import find_leaders

    keys = np.random.default_rng(0).permutation(len(prompts)).astype(np.uint64)
    leader = find_leaders(shingles(prompts, 42), keys, THRESHOLD)
    return leader == np.arange(len(prompts))


def rensa(prompts: pl.Series) -> np.ndarray:
    """rensa: Rust, greedy, candidates verified on the signatures."""
    from rensa import RMinHashDeduplicator

    deduplicator = RMinHashDeduplicator(THRESHOLD, PERMUTATIONS, True, 16, 42)
    entries = [(str(number), pairs(prompt)) for number, prompt in enumerate(prompts)]
    return np.array(deduplicator.add_pairs(entries), bool)


def datasketch(prompts: pl.Series) -> np.ndarray:
    """datasketch: numpy and dictionaries, greedy, not verified."""
    from datasketch import MinHash, MinHashLSH

    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    kept = np.zeros(len(prompts), bool)
    sets = ([pair.encode() for pair in pairs(prompt)] for prompt in prompts)
    for number, signature in enumerate(MinHash.generator(sets, num_perm=PERMUTATIONS)):
        if not lsh.query(signature):
            lsh.insert(number, signature)
            kept[number] = True
    return kept


METHODS = {"ours": ours, "rensa": rensa, "datasketch": datasketch}


def measure(method: str, file: Path) -> tuple[Cost, dict[str, int]]:
    """Run one method and judge its result; time and memory are the method's alone."""
    from dyneval.prompts.analysis import shingles
    from dyneval.prompts.dedup import Bands, near_pairs

    prompts = pl.read_parquet(file)["prompt"]
    with timed() as usage:
        kept = METHODS[method](prompts)
    # Seed 7: other hash functions than any method had. With its own, a method would be blind to what it missed.
    signed = shingles(prompts, 7)
    stay = signed.take(kept)
    mine, theirs, _ = near_pairs(stay, stay, THRESHOLD, Bands(16, 4))
    near_left = len(np.unique(mine[mine != theirs]))
    dropped = np.flatnonzero(~kept)
    sample = np.zeros(len(kept), bool)
    sample[np.random.default_rng(1).choice(dropped, min(2000, len(dropped)), replace=False)] = True
    found, _, _ = near_pairs(signed.take(sample), stay, THRESHOLD, Bands(16, 4))
    wrong = int(sample.sum()) - len(np.unique(found))
    return usage, {"kept": int(kept.sum()), "near_left": near_left, "wrong": wrong}


def main() -> None:
    """Measure every method in a process of its own."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("--rows", type=int, default=200_000, smoke=500)
    flags.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table({"method": "", "CPU s": ".1f", "peak GiB": ".2f", "kept": ",", "near left": ",", "wrong": ","})
    installed = {name for name in arguments.methods if name == "ours" or importlib.util.find_spec(name)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.parquet"
        pl.DataFrame({"prompt": make_prompts(arguments.rows)}).write_parquet(file)
        works = {name: lambda name=name: alone(measure, name, file) for name in arguments.methods if name in installed}
        for name, runs in alternate(works, arguments.repeat).items():
            (_, judged), usages = runs[0], [usage for usage, _ in runs]
            figures = [usage.cpu for usage in usages], [usage.peak / 1024 for usage in usages]
            results.row(name, *figures, judged["kept"], judged["near_left"], judged["wrong"])
    for name in set(arguments.methods) - installed:
        results.row(f"{name}: not installed", *[None] * 5)


if __name__ == "__main__":
    main()
