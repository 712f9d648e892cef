"""How far annotation runs are: done, rejected, rate, remaining time, tokens and cost, from another terminal.

    dyneval status annotations/ --every 10
    dyneval status annotations/ --price-in 0.20 --price-out 0.60      # dollars a million tokens
    dyneval status annotations/ --gpu-hour 2.50                       # dollars a GPU and hour; of runs with --gpus

FOLDER is the --output of `annotate.py` or of a single workflow; parts that run with --shard are listed one by one. The
exit status is 1 where a run stopped or seems to have been killed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.cli.running import run
from dyneval.flags import Parser

if TYPE_CHECKING:
    from dyneval.teacher.watch import Progress


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    parser.add_argument("folder", type=Path, help="the --output of the runs")
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="look again and again, until all runs have ended"
    )
    prices = parser.add_argument_group("prices, in any one currency")
    prices.add_argument("--price-in", type=float, default=0.0, metavar="P", help="a million tokens of requests")
    prices.add_argument("--price-out", type=float, default=0.0, metavar="P", help="a million tokens of replies")
    prices.add_argument("--gpu-hour", type=float, default=0.0, metavar="P", help="an hour of one GPU")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    if arguments.every is not None and arguments.every <= 0:
        parser.error("--every: expected seconds above 0")
    return run(parser, lambda: _watch(arguments))


def _watch(arguments: argparse.Namespace) -> int:
    from dyneval.teacher.watch import runs_in

    while True:
        rows = [_row(name, found, arguments) for name, found in runs_in(arguments.folder)]
        sys.stdout.write(f"{json.dumps(rows) if arguments.json else _table(rows)}\n")
        sys.stdout.flush()
        if arguments.every is None or not any(row["state"] == "running" for row in rows):
            return int(any(row["state"] in ("stopped", "killed?") for row in rows))
        time.sleep(arguments.every)


def _row(name: str, found: Progress, arguments: argparse.Namespace) -> dict[str, Any]:
    tokens = found.prompt_tokens * arguments.price_in + found.completion_tokens * arguments.price_out
    hours = found.gpus * (found.updated - found.started) / 3600
    cost = tokens / 1e6 + hours * arguments.gpu_hour
    # Of the pairs that are left, each as dear as those that this run has annotated.
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
