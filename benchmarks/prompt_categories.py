"""Precision and recall of the rules that assign categories, on prompts labelled by hand.

    python benchmarks/prompt_categories.py               # a line a dimension
    python benchmarks/prompt_categories.py --all         # a line a sub-category as well

`data/labelled_prompts.jsonl` holds our own prompts with all their sub-categories. The split `rules` was looked at while
the rules were written; `held_out` was labelled before and only ever measured.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness import Flags, Results

from dyneval.prompts import categories
from dyneval.prompts.analysis import describe

FILE = Path(__file__).with_name("data") / "labelled_prompts.jsonl"


def scores(truth: list[set[str]], found: list[set[str]], names: set[str]) -> tuple[float, float, float, int]:
    """Precision, recall, F1 and number of true labels, over all labels among `names`."""
    # A denominator of 0 is taken as 1: precision of no label given, or recall of none to find, is then 0.
    hits = sum(len(t & f & names) for t, f in zip(truth, found, strict=True))
    given, true = sum(len(f & names) for f in found), sum(len(t & names) for t in truth)
    return hits / max(1, given), hits / max(1, true), 2 * hits / max(1, given + true), true


def main() -> None:
    """Print a table for each split."""
    flags = Flags(__doc__)
    flags.add_argument("--all", action="store_true", help="a line a sub-category as well")
    arguments = flags.parse_args()
    results = Results(arguments)
    rows = [json.loads(line) for line in FILE.open(encoding="utf-8")]
    rules = categories.load()
    dimensions: dict[str, set[str]] = {}
    for category in rules.categories:
        dimensions.setdefault(category.dimension, set()).add(category.name)
    for split in ("rules", "held_out"):
        part = [row for row in rows if row["split"] == split]
        truth = [set(row["categories"]) for row in part]
        found = [set(description.categories) for description in describe([row["prompt"] for row in part])]
        columns = {"dimension": "", "precision": ".3f", "recall": ".3f", "F1": ".3f", "labels": ""}
        results.table(columns, f"{split}: {len(part)} prompts")
        for dimension, names in dimensions.items():
            results.row(dimension, *scores(truth, found, names))
            for name in rules.names if arguments.all else ():
                if name in names:
                    results.row(f"- {name}", *scores(truth, found, {name}))
        # Macro means: each dimension counts alike, however few prompts have it. Sub-categories that no prompt of the
        # split has are left out, since their recall is of nothing.
        by_dimension = [scores(truth, found, names)[2] for names in dimensions.values()]
        results.row("mean over dimensions", None, None, sum(by_dimension) / len(by_dimension), None)
        by_name = [f1 for name in rules.names for _, _, f1, labels in [scores(truth, found, {name})] if labels]
        results.row("mean over sub-categories", None, None, sum(by_name) / len(by_name), None)


if __name__ == "__main__":
    main()
