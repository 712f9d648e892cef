"""Precision and recall of the rules that assign categories, on prompts labelled by hand.

    python benchmarks/prompt_categories.py               # a line a dimension
    python benchmarks/prompt_categories.py --all         # a line a sub-category as well

`data/labelled_prompts.jsonl` holds own prompts with all their sub-categories. The split `rules` was looked at while
the rules were written; `held_out` was labelled before and only ever measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dyneval.prompts import categories
from dyneval.prompts.analysis import describe

FILE = Path(__file__).with_name("data") / "labelled_prompts.jsonl"


def scores(truth: list[set[str]], found: list[set[str]], names: set[str]) -> tuple[float, float, float, int]:
    """Precision, recall, F1 and number of true labels, over all labels among `names`."""
    hits = sum(len(t & f & names) for t, f in zip(truth, found, strict=True))
    given, true = sum(len(f & names) for f in found), sum(len(t & names) for t in truth)
    return hits / max(1, given), hits / max(1, true), 2 * hits / max(1, given + true), true


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="a line a sub-category as well")
    args = parser.parse_args()
    rows = [json.loads(line) for line in FILE.open(encoding="utf-8")]
    rules = categories.load()
    dimensions: dict[str, set[str]] = {}
    for category in rules.categories:
        dimensions.setdefault(category.dimension, set()).add(category.name)
    for split in ("rules", "held_out"):
        part = [row for row in rows if row["split"] == split]
        truth = [set(row["categories"]) for row in part]
        found = [set(description.categories) for description in describe([row["prompt"] for row in part])]
        print(
            f"\n{split}: {len(part)} prompts\n\n| dimension | precision | recall | F1 | labels |\n|---|---|---|---|---|"
        )
        for dimension, names in dimensions.items():
            print("| {} | {:.3f} | {:.3f} | {:.3f} | {} |".format(dimension, *scores(truth, found, names)))
            for name in (name for name in rules.names if name in names and args.all):
                print("| - {} | {:.2f} | {:.2f} | {:.2f} | {} |".format(name, *scores(truth, found, {name})))
        single = [scores(truth, found, {name}) for name in rules.names]
        by_name = [f1 for _, _, f1, labels in single if labels]
        by_dimension = [scores(truth, found, names)[2] for names in dimensions.values()]
        means = sum(by_dimension) / len(by_dimension), sum(by_name) / len(by_name)
        print("\nmacro F1 over dimensions {:.3f}, over sub-categories {:.3f}".format(*means))


if __name__ == "__main__":
    main()
