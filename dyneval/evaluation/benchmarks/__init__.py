"""Loaders of seventeen published benchmarks with people's ratings or preferences, and of any table of ratings.

Each loader is one file that names its source, and a `Benchmark` in it that this package lists. A benchmark that is
missing from `BENCHMARKS` cannot be named on the command line. What to download for one, and where from:

    from dyneval.evaluation.benchmarks import BENCHMARKS

    print(BENCHMARKS["tifa"].layout, BENCHMARKS["tifa"].source)

`load(BENCHMARKS["tifa"], path).items` are then its rated images.
"""

from __future__ import annotations

from dyneval.evaluation.benchmarks import (
    agiqa,
    dsg,
    evalmi,
    evalmuse,
    genai_bench,
    geneval,
    geneval2,
    preferences,
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
    dsg,
    agiqa,
    richhf,
    geneval,
    evalmi,
    t2i_eval,
    geneval2,
    tiif,
    unigenbench,
    t2i_corebench,
)
_PREFERENCES = (preferences.IMAGE_REWARD, preferences.HPDV2, preferences.HPDV3, preferences.PICK_A_PIC)
BENCHMARKS: dict[str, Benchmark] = {
    one.name: one for one in (*(module.BENCHMARK for module in _MODULES), *_PREFERENCES)
}
"""By name, in the order of the paper's tables."""
