"""Stop where a T2I model has become worse: its scores beside those of the run before, prompt by prompt.

    dyneval check scores.jsonl --baseline base.jsonl --max-drop 0.02
    dyneval check scores.jsonl --baseline base.jsonl --per category --prompts prompts.jsonl --output check/

The exit status is 1 where a mean dropped by more than that on the scale 0-1 and it is no chance (paired bootstrap over
prompts, one-sided, p < 0.05 after Holm), or where prompts of the baseline have no score; so it fits a CI job.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dyneval.cli.running import run
from dyneval.errors import SettingError
from dyneval.flags import Parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = _parser(prog)
    arguments = parser.parse_args(argv)
    return run(parser, lambda: _check(arguments))


def _parser(prog: str | None) -> Parser:
    parser = Parser(prog, __doc__)
    add = parser.add_argument
    add("scores", type=Path, help="the new run's scores.jsonl")
    add("--baseline", type=Path, required=True, help="scores.jsonl of the run before, of the same prompts")
    add("--max-drop", type=float, default=0.02, help="of a mean on the scale 0-1; default: %(default)s")
    add("--score", default="overall", help="overall, t2ia, iqa or soft.overall, soft.t2ia, soft.iqa")
    add("--per", choices=("category",), help="also look at the prompts of each sub-category by themselves")
    add("--prompts", type=Path, help="prompt list with categories, for --per")
    add("--metadata", nargs="+", type=Path, default=[], help="the baseline's metadata.jsonl in its place")
    add("--allow-missing", action="store_true", help="prompts of the baseline without a new score are no failure")
    add("--resamples", type=int, default=2000, help="of the bootstrap over prompts; default: %(default)s")
    add("--output", type=Path, help="folder for the table as CSV, Markdown, LaTeX and HTML")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    from dyneval.evaluation.regression import compare_runs, table

    found = compare_runs(
        arguments.scores,
        arguments.baseline,
        max_drop=arguments.max_drop,
        score=arguments.score,
        groups=_groups(arguments) if arguments.per else None,
        resamples=arguments.resamples,
    )
    shown = table(found, arguments.max_drop)
    print(shown.render())
    for note in shown.notes:
        print(note, file=sys.stderr)
    if arguments.output:
        shown.write(arguments.output, "check")
    return 1 if found.is_worse or (found.missing and not arguments.allow_missing) else 0


def _groups(arguments: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """The sub-categories of each prompt of the baseline."""
    from dyneval.evaluation.scored import read_prompts, read_scored

    if arguments.prompts:
        return {entry.prompt: entry.categories for entry in read_prompts(arguments.prompts)}
    if not arguments.metadata:
        raise SettingError("--per category needs --prompts or --metadata, which tell the categories")
    found: dict[str, set[str]] = defaultdict(set)
    for image in read_scored([arguments.baseline], metadata=arguments.metadata).images:
        found[image.prompt].update(image.categories)
    return {prompt: tuple(sorted(names)) for prompt, names in found.items()}
