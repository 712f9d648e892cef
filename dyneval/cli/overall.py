"""Overall score of every annotated pair: alpha * IQA + beta * T2IA, each 1-5.

    dyneval overall --metadata gendb/metadata.jsonl --annotations annotations --output annotations/overall_scores.csv

Pairs without T2IA or IQA answers are listed beside the scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dyneval.cli.running import run, shared
from dyneval.cli.tables import AnnotationFolder
from dyneval.flags import Parser, arg


@dataclass(frozen=True, kw_only=True, slots=True)
class OverallOptions:
    """By the names of `OverallConfig`."""

    metadata: Annotated[Path, arg("metadata.jsonl of the pairs")]
    annotations: AnnotationFolder
    output: Annotated[Path, arg("file to write, .json or .csv")]
    alpha: Annotated[float, arg("weight of IQA")] = 0.5
    beta: Annotated[float, arg("weight of T2IA")] = 0.5


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the verb; returns the exit status."""
    parser = Parser(prog, __doc__)
    options = parser.parse_options(OverallOptions, argv)
    return run(parser, _compute, options)


def _compute(options: OverallOptions) -> int:
    from dyneval.files.atomic import refuse_overwrite
    from dyneval.instruct.overall import OverallConfig, compute_overall_scores

    refuse_overwrite([options.metadata], [options.output])
    print(json.dumps(compute_overall_scores(OverallConfig(**shared(options, OverallConfig))), indent=2))
    return 0
