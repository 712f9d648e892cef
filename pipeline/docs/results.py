"""Makes two texts about figures: where ours come from, by section of benchmarks/README.md, and the published ones.

Date and commit of a figure are those of `git blame`, so that nobody has to keep them up to date by hand; ours and those
of others stand on different pages, so that nobody takes one for the other.
"""

from __future__ import annotations

import csv
import re
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks" / "README.md"
DATA = ROOT / "dyneval" / "evaluation" / "data"


def origins(slug: Callable[[str, str], str]) -> str:
    """Return a table of the sections that hold figures: command, and when and in which commit a figure last changed.

    Args:
        slug: makes the anchor of a title, as the site does: title and separator to anchor.
    """
    dated = _lines_dated()
    rows = []
    lines = BENCHMARKS.read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if re.match(r"##+ ", line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        title, first, text = lines[start].lstrip("# "), start + 1, lines[start:end]  # git counts lines from 1
        figures = [first + number for number, line in enumerate(text) if re.match(r"\|.*\d", line)]
        if not figures:
            continue
        commands = [line.strip().partition("  #")[0].strip() for line in text if re.match(r"    (python|bash) ", line)]
        when = max((dated[number] for number in figures if number in dated), default=None)
        date = time.strftime("%Y-%m-%d", time.gmtime(when[0])) if when else ""
        commit = f"`{when[1][:9]}`" if when else ""
        shown = "<br>".join(f"`{one}`" for one in commands)
        rows.append(f"| [{title}](#{slug(title, '-')}) | {shown} | {date} | {commit} |")
    return (
        "## Where the figures come from\n\n"
        "Machine: two CPU cores (AMD EPYC, shared with other work unless a section says otherwise); no figure is from "
        "a GPU unless a section says so. Date and commit are those in which a figure of the section last changed; "
        "a section tells what machine, load or version differs.\n\n"
        "| section | command | figures of | commit |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
    )


def published() -> str:
    """Return the page of figures that others published, each column marked as such.

    Scores of models come from `dyneval/data/models.toml`, agreement from `published_agreement.csv`.
    """
    models = tomllib.loads((ROOT / "dyneval" / "data" / "models.toml").read_text())
    ranked = sorted((one for one in models.values() if "paper_score" in one), key=lambda one: -one["paper_score"])
    agreement = csv.DictReader((DATA / "published_agreement.csv").open(newline=""))
    board = [f"| {n} | {one['name']} | {one['tier']} | {one['paper_score']:.3f} |" for n, one in enumerate(ranked, 1)]
    rows = [
        f"| {row['benchmark']} | {row['pairs']} | {row['evaluator']} | {row['srcc']} | {row['plcc']} |"
        for row in agreement
    ]
    return (
        "# Published figures\n\n"
        '!!! warning "Published by others, not measured here"\n'
        "    All figures on this page are typed off from the paper, its supplement and its project page "
        "([arXiv 2607.11199](https://arxiv.org/abs/2607.11199)). What we measured is on the page "
        "[Benchmarks](benchmarks.md).\n\n"
        "## Image models\n\nOverall score of DynEval-4B on DynEval-1K, on the scale 0-1 (`normalised`), of the paper's "
        f"{len(board)} models, as `dyneval/data/models.toml` has them.\n\n"
        "| rank | model (published) | tier | score (published) |\n|---|---|---|---|\n" + "\n".join(board) + "\n\n"
        "## Agreement with people\n\nSpearman (SRCC) and Pearson (PLCC) correlation with human ratings: the two "
        "published students and the best other evaluator that the paper lists for each set.\n\n"
        "| benchmark | pairs | evaluator | SRCC (published) | PLCC (published) |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _lines_dated() -> dict[int, tuple[int, str]]:
    """Time (s since 1970) and commit of each line; {} in a shallow clone, where blame would date all lines alike."""
    git = ["git", "-C", str(ROOT)]
    shallow = subprocess.run(
        [*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=False
    )
    if shallow.stdout.strip() != "false":
        return {}
    told = subprocess.run(
        [*git, "blame", "--line-porcelain", "--", str(BENCHMARKS)], capture_output=True, text=True, check=True
    ).stdout
    found: dict[int, tuple[int, str]] = {}
    commit, number = "", 0
    for line in told.splitlines():
        if head := re.match(r"([0-9a-f]{40}) \d+ (\d+)", line):
            commit, number = head[1], int(head[2])
        elif line.startswith("author-time ") and commit.strip("0"):  # a commit of zeros is a line not committed yet
            found[number] = int(line.split()[1]), commit
    return found
