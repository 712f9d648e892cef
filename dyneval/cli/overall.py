"""Overall score of every annotated pair: alpha * IQA + beta * T2IA, each 1-5.

    dyneval overall --metadata gendb/metadata.jsonl --annotations annotations --output annotations/overall_scores.csv

Pairs without T2IA or IQA answers are listed beside the scores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from dyneval.cli.running import run
from dyneval.flags import Parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    parser.add_argument("--metadata", type=Path, required=True, help="metadata.jsonl of the pairs")
    parser.add_argument("--annotations", type=Path, required=True, help="folder of the four annotation files")
    parser.add_argument("--output", type=Path, required=True, help="file to write, .json or .csv")
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of IQA; default: %(default)s")
    parser.add_argument("--beta", type=float, default=0.5, help="weight of T2IA; default: %(default)s")
    args = parser.parse_args(argv)
    return run(parser, lambda: _compute(args))


def _compute(args: argparse.Namespace) -> int:
    from dyneval.instruct.overall import OverallConfig, compute_overall_scores

    names = OverallConfig.__dataclass_fields__
    print(json.dumps(compute_overall_scores(OverallConfig(**{name: getattr(args, name) for name in names})), indent=2))
    return 0
