"""How far annotation runs are: done, rejected, rate, remaining time, tokens and cost, from another terminal.

    dyneval status annotations/ --every 10
    dyneval status annotations/ --price-in 0.20 --price-out 0.60      # dollars a million tokens
    dyneval status annotations/ --gpu-hour 2.50                       # dollars a GPU and hour; of runs with --gpus

FOLDER is the --output of `annotate.py` or of a single workflow; parts that run with --shard are listed one by one. The
exit status is 1 where a run stopped or seems to have been killed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dyneval.cli.running import run
from dyneval.flags import Parser, arg

if TYPE_CHECKING:
    from dyneval.teacher.watch import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusOptions:
    """Which runs, how often they are looked at, and what their work costs."""

    folder: Annotated[Path, arg("the --output of the runs", position=True)]
    every: Annotated[float | None, arg("look again and again, until all runs have ended", metavar="SECONDS", gt=0)] = (
        None
    )
    json: Annotated[bool, arg("print JSON")] = False
    price_in: Annotated[
        float, arg("a million tokens of requests", metavar="P", heading="prices, in any one currency")
    ] = 0.0
    price_out: Annotated[float, arg("a million tokens of replies", metavar="P")] = 0.0
    gpu_hour: Annotated[float, arg("an hour of one GPU", metavar="P")] = 0.0


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(StatusOptions, argv)
    return run(parser, _watch, options)


def _watch(options: StatusOptions) -> int:
    from dyneval.teacher.watch import runs_in

    while True:
        rows = [_row(name, found, options) for name, found in runs_in(options.folder)]
        sys.stdout.write(f"{json.dumps(rows) if options.json else _table(rows)}\n")
        sys.stdout.flush()
        # Runs that ended, however they did, tell nothing new.
        if options.every is None or not any(row["state"] == "running" for row in rows):
            # A killed run cannot say so: its process is gone, or, on another machine, it has been silent for long.
            return int(any(row["state"] in ("stopped", "killed?") for row in rows))
        time.sleep(options.every)


def _row(name: str, found: Progress, options: StatusOptions) -> dict[str, Any]:
    tokens = found.prompt_tokens * options.price_in + found.completion_tokens * options.price_out
    hours = found.gpus * (found.updated - found.started) / 3600
    cost = tokens / 1e6 + hours * options.gpu_hour
    # Each pair that is left costs as much as those that this run annotated. A resumed run has annotated fewer than are
    # done.
    left = max(0, found.total - found.pairs) if found.state == "running" else 0
    return {
        "run": name,
        "state": "killed?" if found.seems_dead else found.state,
        "heard_seconds_ago": round(time.time() - found.updated, 1),
        "pairs": found.pairs,
        "total": found.total,
        "annotated": found.annotated,
        "rejected": found.rejected,
        "pairs_per_second": found.pairs_per_second,
        "seconds_left": found.seconds_left,
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "cost": round(cost, 2),
        "cost_at_end": round(cost * (1 + left / found.annotated), 2) if found.annotated else None,
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    from tabulate import tabulate

    from dyneval.work.progress import span

    lines = []
    for row in rows:
        rejected = sum(row["rejected"].values())
        kinds = ", ".join(f"{kind} {number}" for kind, number in row["rejected"].items())
        rate, left, end = row["pairs_per_second"], row["seconds_left"], row["cost_at_end"]
        lines.append(
            [
                row["run"],
                f"{row['state']}, {row['heard_seconds_ago']:.0f} s ago",
                f"{row['pairs']:,}/{row['total']:,}",
                f"{rejected:,}" + (f" ({kinds})" if kinds else ""),
                "-" if rate is None else f"{rate:.3g}/s",
                "-" if left is None else span(left),
                f"{row['prompt_tokens']:,} + {row['completion_tokens']:,}",
                (f"{row['cost']:,.2f}" + ("" if end is None else f" of {end:,.2f}")) if row["cost"] else "-",
            ]
        )
    heads = ["run", "state", "pairs", "rejected", "rate", "left", "tokens in + out", "cost"]
    return tabulate(lines, heads, disable_numparse=True)
