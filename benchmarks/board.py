"""CPU time and peak memory of a board of very many scores, beside an older checkout of this repository.

    git worktree add /tmp/before 439f9e7
    python benchmarks/board.py --records 1000000 --models 2 36 --before /tmp/before

Scores, prompts and skills are made up. Each run is `dyneval leaderboard` with its report and 1,000 resamples.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from distill_build import annotated, measured, sentence
from scaling import QUESTIONS, score

from dyneval.evaluation import published

ROOT = Path(__file__).parents[1]
SKILLS = [name for names in published.dimensions().values() for name in names]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, nargs="+", default=[2, 36], help="that the records are shared out to")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    arguments = parser.parse_args()
    print("| code | models | prompts | CPU s | peak MiB |\n|---|---|---|---|---|")
    for models in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), arguments.records, models)
            for name, tree in (("before", arguments.before), ("this", ROOT)):
                if tree is None:
                    continue
                os.environ["PYTHONPATH"] = str(tree)
                inputs = [f"{folder}/scores.jsonl", "--metadata", f"{folder}/metadata.jsonl"]
                command = [sys.executable, "-m", "dyneval", "leaderboard", *inputs, "--output", f"{folder}/{name}"]
                _, peak, seconds = measured(command, tree, quiet=True)
                prompts = -(-arguments.records // models)
                print(f"| {name} | {models} | {prompts:,} | {seconds:.0f} | {peak / 2**20:,.0f} |", flush=True)


def write(folder: Path, records: int, models: int) -> None:
    """Write metadata and scores: each model's image of every prompt, of two skills."""
    rng = random.Random(0)
    with (folder / "metadata.jsonl").open("w") as pairs, (folder / "scores.jsonl").open("w") as scores:
        for number in range(records):
            prompt, model = divmod(number, models)
            text = f"{sentence(random.Random(prompt), 20)} {prompt}"
            rows = annotated(rng, text, f"model{model}", 1 + model % 3, QUESTIONS)
            skills = [SKILLS[prompt % len(SKILLS)], SKILLS[prompt * 7 % len(SKILLS)]]
            pairs.write(json.dumps(rows["metadata"] | {"categories": sorted(set(skills))}) + "\n")
            scores.write(json.dumps(score(rows)) + "\n")


if __name__ == "__main__":
    main()
