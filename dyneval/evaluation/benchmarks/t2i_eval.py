"""T2I-Eval-Bench (Tu et al. 2024, arXiv 2411.15488): three raters, four aspects.

Source: `src/utils/calc_correlation.py` of https://github.com/maziao/T2I-Eval for `scores.json`: each entry holds,
under "overall", for each of the four aspects {"score": GPT-4o's, "manual_score": [three raters, their mean]}. The
prompts and image names stand in `t2i-eval-bench.json`; its fields are read as that repository documents its samples
(`id`, `image_caption`, `gt_image`, `model_name`). That file itself could not be looked at, nor could the scale (the
paper speaks of 0-10).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, inside, listed
from dyneval.files.atomic import read_json

# The fourth number of `manual_score` is the mean of the three raters, and no rater.
RATERS = 3


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of a folder with `scores.json` and `t2i-eval-bench.json`."""
    samples = {str(row["id"]): row for row in read_json(inside(path, "t2i-eval-bench.json"))}
    for row in read_json(inside(path, "scores.json")):
        name = str(row["id"])
        if name not in samples:
            raise LookupError(f"scores.json rates {name}, which t2i-eval-bench.json does not hold")
        sample = samples[name]
        yield RatedImage(
            item_id=name,
            image=sample["gt_image"],
            prompt=sample["image_caption"],
            ratings=listed(row["overall"][field]["manual_score"][:RATERS]),
            model=sample.get("model_name"),
        )


BENCHMARK = Benchmark(
    name="t2i-eval-bench",
    title="T2I-Eval-Bench",
    source="https://huggingface.co/datasets/DataHammer/T2I-Eval-Bench and https://github.com/maziao/T2I-Eval",
    layout='a folder with t2i-eval-bench.json ([{"id", "image_caption", "gt_image", "model_name"}]) and scores.json '
    '([{"id", "overall": {"overall": {"manual_score": [rater 1, rater 2, rater 3, mean]}, ...}}])',
    size="8,772 images",
    licence="MIT",
    # No scale: the paper speaks of 0-10, and the file could not be looked at.
    fields={
        "overall": Field("overall"),
        "appearance": Field("appearance quality"),
        "intrinsic": Field("intrinsic attribute consistency"),
        "relationship": Field("relationship attribute consistency"),
    },
    read=read,
)
