"""Loaders of eleven published benchmarks with human ratings, and of any table; each module names its source.

items = load(BENCHMARKS["tifa"], Path("human_annotations.json")).items
"""

from __future__ import annotations

from dyneval.evaluation.benchmarks import (
    evalmi,
    evalmuse,
    genai_bench,
    geneval,
    geneval2,
    richhf,
    t2i_corebench,
    t2i_eval,
    tifa,
    tiif,
    unigenbench,
)
from dyneval.evaluation.benchmarks.base import (
    Benchmark,
    Field,
    LayoutError,
    RatedImage,
    RatedSet,
    RatingError,
    load,
    refuse_duplicates,
)

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Field",
    "LayoutError",
    "RatedImage",
    "RatedSet",
    "RatingError",
    "load",
    "refuse_duplicates",
]

_MODULES = (
    evalmuse,
    genai_bench,
    tifa,
    richhf,
    geneval,
    evalmi,
    t2i_eval,
    geneval2,
    tiif,
    unigenbench,
    t2i_corebench,
)
BENCHMARKS: dict[str, Benchmark] = {module.BENCHMARK.name: module.BENCHMARK for module in _MODULES}
"""By name, in the order of the paper's tables."""
