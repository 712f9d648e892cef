"""Stop where a T2I model has become worse: its scores beside those of the run before, prompt by prompt.

    dyneval check scores.jsonl --baseline base.jsonl --max-drop 0.02
    dyneval check scores.jsonl --baseline base.jsonl --per category --prompts prompts.jsonl --output check/

The exit status is 1 where a mean dropped by more than that on the scale 0-1 and it is no chance (paired bootstrap over
prompts, one-sided, p < 0.05 after Holm), or where prompts of the baseline have no score; so it fits a CI job.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser, arg


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOptions:
    """The two runs, and what counts as worse."""

    scores: Annotated[Path, arg("the new run's scores.jsonl", position=True)]
    baseline: Annotated[Path, arg("scores.jsonl of the run before, of the same prompts")]
    max_drop: Annotated[float, arg("of a mean on the scale 0-1")] = 0.02
    score: Annotated[str, arg("overall, t2ia, iqa or soft.overall, soft.t2ia, soft.iqa")] = "overall"
    per: Annotated[Literal["category"] | None, arg("also look at the prompts of each sub-category by themselves")] = (
        None
    )
    prompts: Annotated[Path | None, arg("prompt list with categories, for --per")] = None
    metadata: Annotated[tuple[Path, ...], arg("the baseline's metadata.jsonl in its place", nargs="+")] = ()
    allow_missing: Annotated[bool, arg("prompts of the baseline without a new score are no failure")] = False
    resamples: Annotated[int, arg("of the bootstrap over prompts")] = 2000
    output: Annotated[Path | None, arg("folder for the table as CSV, Markdown, LaTeX and HTML")] = None


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(CheckOptions, argv)
    return run(parser, _check, options)


def _check(options: CheckOptions) -> int:
    from dyneval.evaluation.regression import compare_runs, table

    found = compare_runs(
        options.scores,
        options.baseline,
        max_drop=options.max_drop,
        score=options.score,
        groups=_groups(options) if options.per else None,
        resamples=options.resamples,
    )
    shown = table(found, options.max_drop)
    print(f"{options.scores} against {options.baseline}: means of {options.score} over prompts, on the scale 0-1\n")
    print(shown.render())
    for note in shown.notes:
        print(note, file=sys.stderr)
    if options.output:
        shown.write(options.output, "check")
    # A prompt without a new score fails too: a model that draws nothing for hard prompts would look better.
    return 1 if found.is_worse or (found.missing and not options.allow_missing) else 0


def _groups(options: CheckOptions) -> dict[str, tuple[str, ...]]:
    """The sub-categories of each prompt of the baseline."""
    from dyneval.evaluation.scored import read_prompts, read_scored

    # A prompt list tells the categories of all prompts, metadata those of the images that were made.
    if options.prompts:
        return {entry.prompt: entry.categories for entry in read_prompts(options.prompts)}
    if not options.metadata:
        raise SettingError("--per category needs --prompts or --metadata, which tell the categories")
    found: dict[str, set[str]] = defaultdict(set)
    for image in read_scored([options.baseline], metadata=options.metadata):
        found[image.prompt].update(image.categories)
    return {prompt: tuple(sorted(names)) for prompt, names in found.items()}
