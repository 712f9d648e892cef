"""GenEval's human annotations (Ghosh et al. 2023): five raters an image; IF-XL, Stable Diffusion 2.1, CLIP retrieval.

Source: `annotations/annotations_*.csv` of https://github.com/djghosh13/geneval, one row a rater, and
`annotations/mturk_hit_template.html` there, whose question 5 "How well does the image fit the caption below? (1-4)"
is `Answer.task-quality`: 4 fully captures the caption, 3 misses one of many elements, 2 misses several or most, 1 is
unrelated. `Answer.task-real-0` and `-1` (1-3) rate how realistic the first and the second object are; empty where it
is not there. The image path is what follows `/images/` in `Input.image_url`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files import tables


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of one `annotations_<model>.csv`, or of all of them in a folder."""
    # Realism is asked of up to two objects.
    columns = ["Answer.task-quality"] if field == "caption_fit" else ["Answer.task-real-0", "Answer.task-real-1"]
    files = sorted(path.glob("annotations_*.csv")) if path.is_dir() else [path]
    for file in files:
        # `groupby` joins rows that follow each other, which the rows of one image need not do.
        rows = sorted(tables.rows(file), key=lambda row: row["Input.index"])
        for index, group in groupby(rows, key=lambda row: row["Input.index"]):
            raters = list(group)
            image = raters[0]["Input.image_url"].partition("/images/")[2]
            model = image.split("/")[0]
            yield RatedImage(
                item_id=f"{model}/{index}",
                image=image,
                prompt=raters[0]["Input.caption"],
                ratings=tuple(value for row in raters for column in columns for value in listed(row[column])),
                model=model,
            )


BENCHMARK = Benchmark(
    name="geneval",
    title="GenEval",
    source="https://github.com/djghosh13/geneval/tree/main/annotations",
    layout="annotations_<model>.csv or the folder that holds them, one row a rater with Input.index, Input.caption, "
    "Input.image_url, Answer.task-quality; images as <model>/<prompt>/samples/<n>.png",
    size="1,200 images",
    licence="MIT",
    fields={
        "caption_fit": Field("how well the image fits the caption", 1, 4),
        "realism": Field("how realistic the objects are", 1, 3, is_checklist=True),
    },
    read=read,
)
