"""CPU time and peak memory of a board of very many scores, beside an older commit.

    python benchmarks/board.py --records 1000000 --models 2 36 --baseline 439f9e7

Scores, prompts and skills are made up. Each run is `dyneval leaderboard` with its report and 1,000 resamples.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

from distill_build import annotated, sentence
from harness import Flags, Results, alternate, checkouts, run_command
from scaling import QUESTIONS, score

from dyneval.evaluation import published

SKILLS = [name for names in published.dimensions().values() for name in names]


def main() -> None:
    """Print a row for each number of models and each commit."""
    flags = Flags(__doc__, repeat=1)
    flags.add_argument("--records", type=int, default=1_000_000, smoke=40)
    flags.add_argument("--models", type=int, nargs="+", default=[2, 36], smoke=[2], help="that the records belong to")
    flags.add_argument("--baseline", metavar="COMMIT", help="a commit to compare with, such as 439f9e7")
    arguments = flags.parse_args()
    results = Results(arguments)
    results.table({"code": "", "models": "", "prompts": ",", "wall s": ".0f", "CPU s": ".0f", "peak MiB": ",.0f"})
    for models in arguments.models:
        with tempfile.TemporaryDirectory() as name, checkouts(arguments.baseline) as trees:
            folder = Path(name)
            write(folder, arguments.records, models)
            inputs = [folder / "scores.jsonl", "--metadata", folder / "metadata.jsonl"]
            command = [sys.executable, "-m", "dyneval", "leaderboard", *inputs, "--output"]
            variants = {
                code: partial(run_command, [*command, folder / code], tree, quiet=True, PYTHONPATH=tree)
                for code, tree in trees.items()
            }
            prompts = -(-arguments.records // models)
            for code, runs in alternate(variants, arguments.repeat).items():
                figures = [[run.wall for run in runs], [run.cpu for run in runs], [run.peak for run in runs]]
                results.row(code, models, prompts, *figures)


def write(folder: Path, records: int, models: int) -> None:
    """Write metadata and scores: each model's image of every prompt, of two skills."""
    rng = random.Random(0)
    with (folder / "metadata.jsonl").open("w") as pairs, (folder / "scores.jsonl").open("w") as scores:
        for number in range(records):
            prompt, model = divmod(number, models)
            text = f"{sentence(random.Random(prompt), 20)} {prompt}"
            rows = annotated(rng, text, f"model{model}", 1 + model % 3, QUESTIONS)
            # There are 42 skills, so 7 x n mod 42 has six values: some skills get many more prompts than others.
            skills = [SKILLS[prompt % len(SKILLS)], SKILLS[prompt * 7 % len(SKILLS)]]
            pairs.write(json.dumps(rows["metadata"] | {"categories": sorted(set(skills))}) + "\n")
            scores.write(json.dumps(score(rows)) + "\n")


if __name__ == "__main__":
    main()
