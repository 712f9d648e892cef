"""The table of what ran of every model, image_gen_scripts/TRIED.md: tests say its rows, or fail where they differ."""

import os
from pathlib import Path

PATH = Path(__file__).parents[2] / "image_gen_scripts" / "TRIED.md"
HEAD = """\
# What was run of every model

Written by the tests (`WRITE_TRIED=1 bash tests/run.sh tests/generation`), which fail where it is no longer so. No model
was run with its real weights, and nothing on a GPU: classes, schedulers and processors are the published ones, weights
are tiny and random. "Equal" means that no channel of a pixel differs by more than 2 of 255, in float32 on a CPU.

| model | tier | family | what ran | how |
|---|---|---|---|---|
"""


def check_row(name, spec, what, how):
    """Look whether the row of a model is what it just did."""
    tier = f"{spec.tier}" if spec.in_paper else f"{spec.tier} (ours)"
    row = f"| {name} | {tier} | {spec.family} | {what} | {how} |"
    rows = [line for line in PATH.read_text().splitlines() if line.startswith("| ")][1:] if PATH.exists() else []
    if os.environ.get("WRITE_TRIED") == "1":
        kept = [line for line in rows if line.split(" | ")[0] != f"| {name}"]
        PATH.write_text(HEAD + "".join(f"{line}\n" for line in sorted([*kept, row])))
    else:
        assert row in rows, f"{PATH.name} says otherwise; WRITE_TRIED=1 writes it anew"
