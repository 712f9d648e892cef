"""TIFA v1.0 human annotations (Hu et al. 2023): 800 images of five T2I models, two raters each giving 1-5.

Source: https://github.com/Yushi-Hu/tifa, folder `human_annotations`: `human_annotations.json` (and
`human_annotations_with_scores.json`, which has the same fields and more). `human_avg` there is the mean of
`human_scores`; the mean is taken here from `human_scores`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.atomic import read_json


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of `human_annotations.json`; the T2I model is what follows the prompt's id in the key."""
    for key, row in read_json(path).items():
        # Keys are "<text_id>_<model>", and both parts may hold underscores, so the known one is taken off.
        yield RatedImage(
            item_id=key,
            image=row["image_path"],
            prompt=row["text"],
            ratings=listed(row["human_scores"]),
            model=key.removeprefix(f"{row['text_id']}_") or None,
            categories=(row["text_id"].partition("_")[0],),
        )


BENCHMARK = Benchmark(
    name="tifa",
    title="TIFA v1.0",
    source="https://github.com/Yushi-Hu/tifa/tree/main/human_annotations",
    layout='human_annotations.json, {"coco_1_mini_dalle": {"text_id", "image_path", "text", "human_scores": [1-5 for '
    "each rater]}, ...}",
    size="800 images",
    licence="Apache-2.0",
    fields={"faithfulness": Field("how well the image matches the text", 1, 5)},
    read=read,
)
