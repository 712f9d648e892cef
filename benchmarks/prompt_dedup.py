"""Near-duplicates of Step 1 beside libraries that could find them: time, memory, and how well each does.

    pip install rensa datasketch
    python benchmarks/prompt_dedup.py --rows 200000

Every method gets the same prompts, the same shingles (pairs of neighbouring words) and the same threshold (Jaccard
similarity 0.8), and keeps one of each group. `near_left`: kept prompts that still have a kept near-duplicate, found
with other hash functions and more bands. `wrong`: of 2,000 dropped prompts, those that no kept one is near to.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from prompt_filter import make_prompts, peak_gib

THRESHOLD, PERMUTATIONS = 0.8, 64
WORD = re.compile(r"[0-9a-z\x80-\U0010ffff]+")


def pairs(prompt: str) -> list[str]:
    """Shingles of a prompt as strings, for the libraries."""
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


def judge(prompts: pl.Series, kept: np.ndarray) -> dict:
    """Count what a method missed and what it dropped without need."""
    from dyneval.prompts.analysis import shingles
    from dyneval.prompts.dedup import Bands, near_pairs

    signed = shingles(prompts, 7)  # other hash functions than any method had
    stay = signed.take(kept)
    mine, theirs, _ = near_pairs(stay, stay, THRESHOLD, Bands(16, 4))
    near_left = len(np.unique(mine[mine != theirs]))
    dropped = np.flatnonzero(~kept)
    sample = np.zeros(len(kept), bool)
    sample[np.random.default_rng(1).choice(dropped, min(2000, len(dropped)), replace=False)] = True
    found, _, _ = near_pairs(signed.take(sample), stay, THRESHOLD, Bands(16, 4))
    return {"kept": int(kept.sum()), "near_left": near_left, "wrong": int(sample.sum()) - len(np.unique(found))}


def measure(method: str, file: Path) -> dict:
    """Run one method and judge its result; memory is the method's alone."""
    prompts = pl.read_parquet(file)["prompt"]
    before = time.perf_counter(), time.process_time()
    kept = METHODS[method](prompts)
    wall, cpu = time.perf_counter() - before[0], time.process_time() - before[1]
    peak = peak_gib()
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_gib": peak, **judge(prompts, kept)}


def main() -> None:
    """Measure every method in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.file:
        print(json.dumps(measure(args.methods[0], args.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.parquet"
        pl.DataFrame({"prompt": make_prompts(args.rows)}).write_parquet(file)
        for method in args.methods:
            command = [sys.executable, __file__, "--file", str(file), "--methods", method]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            print(method, output.decode().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
