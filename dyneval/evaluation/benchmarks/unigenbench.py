"""UniGenBench++ (Wang et al. 2025): prompts with test points, each judged 0 or 1.

Source: `eval/gemini_en_eval.py` of https://github.com/CodeGoat24/UniGenBench: result tables `<model>_en.csv` with
index, prompt, testpoint (text of a list), result_json ({"testpoint", "score": [0 or 1 each], ...}) and img_path
(`.../<index>_<sample>.png`). People's judgments are expected in that same form; the rating is the share of ones, the
categories are the test points' main dimensions. No file of human ratings of UniGenBench++ was found in public.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.tables import rows


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of one result table `<model>_<en|zh>.csv`, or of all in a folder."""
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    for file in files:
        model = file.stem.rpartition("_")[0] or file.stem
        for row in rows(file):
            result = _json(row["result_json"])
            image = PurePosixPath(row["img_path"].replace("\\", "/")).name
            yield RatedImage(
                item_id=f"{model}/{image}",
                image=f"{model}/{image}",
                prompt=row["prompt"],
                ratings=listed(result["score"]),
                model=model,
                categories=tuple(sorted({point.split("-")[0].strip() for point in result["testpoint"]})),
            )


def _json(text: str) -> dict[str, list]:
    try:
        return json.loads(text)
    except ValueError as error:
        raise TypeError(f"result_json is not JSON: {text[:60]!r}") from error


BENCHMARK = Benchmark(
    name="unigenbench",
    title="UniGenBench++",
    source="https://github.com/CodeGoat24/UniGenBench",
    layout="<model>_en.csv or a folder of them, with prompt, img_path and result_json ({testpoint: [...], score: [0 or "
    "1, ...]}); images as <model>/<index>_<sample>.png",
    fields={"passed": Field("share of test points that the image passes", 0, 1)},
    read=read,
)
