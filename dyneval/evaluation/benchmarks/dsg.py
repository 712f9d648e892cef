"""DSG's Likert ratings (Cho et al. 2024): the 800 images of TIFA v1.0, five other raters each giving 1-5.

Source: `dsg/data/tifa160-likert-anns.csv` of https://github.com/j-min/DSG, one row a rater with t2i_model, source_id,
answer; `tifa160-dev-anns.csv` beside it has the prompts by source_id. Images are named as in TIFA's human_annotations,
`<source_id>_<model>.jpg`, where the models are mini_dalle, vq_diffusion and stable_diffusion_v1_1, v1_5 and v2_1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, inside
from dyneval.files import tables

# DSG's names of the models -> TIFA's, so that the ids are TIFA's and the two sets can be compared image by image.
_MODELS = {
    "mini-dalle": "mini_dalle",
    "vq-diffusion": "vq_diffusion",
    "sd1dot1": "stable_diffusion_v1_1",
    "sd1dot5": "stable_diffusion_v1_5",
    "sd2dot1": "stable_diffusion_v2_1",
}
_FILE, _PROMPTS = "tifa160-likert-anns.csv", "tifa160-dev-anns.csv"


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of the CSV, or of the one in a folder, each with the answers of its raters."""
    file = inside(path, _FILE) if path.is_dir() else path
    beside = file.with_name(_PROMPTS)
    prompts = {row["item_id"]: row["text"] for row in tables.rows(beside)} if beside.exists() else {}
    # The raters differ in number: three images have four, one has three, all others have five.
    needed = ("t2i_model", "source_id", "worker_id", "answer")
    answers: dict[tuple[str, str], list[Any]] = {}
    for row in tables.rows(file, needed, needs=needed):
        answers.setdefault((row["source_id"], _MODELS[row["t2i_model"]]), []).append(row["answer"])
    for (source, model), given in answers.items():
        yield RatedImage(
            item_id=f"{source}_{model}",
            image=f"{source}_{model}.jpg",
            prompt=prompts.get(source),
            ratings=tuple(given),
            model=model,
            categories=(source.partition("_")[0],),
        )


BENCHMARK = Benchmark(
    name="dsg",
    title="DSG TIFA-160 Likert",
    source="https://github.com/j-min/DSG/tree/main/dsg/data",
    layout=f"{_FILE} (t2i_model, source_id, worker_id, answer 1-5, a row a rater) with {_PROMPTS} beside it, or their "
    "folder; images are those of TIFA's human_annotations",
    size="800 images",
    licence="Apache-2.0",
    fields={"consistency": Field("how consistent the image is with the text", 1, 5)},
    read=read,
)
