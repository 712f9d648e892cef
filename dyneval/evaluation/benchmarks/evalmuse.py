"""EvalMuse-40K (Han et al. 2024, arXiv 2412.18150): overall alignment 1-5 and yes/no for each element of the prompt.

Source: the dataset card https://huggingface.co/datasets/DY-Evalab/EvalMuse and `process/process_train.py` of
https://github.com/DYEvaLab/EvalMuse, which averages `total_score` over the raters and evaluates `element_score`, the
text of a Python dict `{"cat (animal)": [1, 0, 1], ...}`. The ratings of `test.json` are not published; those of
`train_list.json` are. That the first folder of `img_path` names the T2I model is how the archive is laid out, not
stated in the card.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.atomic import read_json
from dyneval.structs import Row

# The type of an element stands in brackets at the end of its name: "cat (animal)".
_ELEMENT_TYPE = re.compile(r"\(([^()]+)\)\s*$")


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of `train_list.json` (or the averaged `train.json`)."""
    for row in read_json(path):
        elements: Row = row["element_score"]
        # The text of a Python dict in the published file, an object in the averaged train.json.
        if isinstance(elements, str):
            try:
                elements = ast.literal_eval(elements)
            except (ValueError, SyntaxError) as error:
                raise TypeError(f"element_score is not the text of a dict: {elements[:60]!r}") from error
        if field == "total_score":
            ratings = listed(row["total_score"])
        else:
            ratings = tuple(value for given in elements.values() for value in listed(given))
        folder, _, _ = row["img_path"].rpartition("/")
        yield RatedImage(
            item_id=row["img_path"],
            image=row["img_path"],
            prompt=row["prompt"],
            ratings=ratings,
            model=folder.split("/")[0] or None,
            categories=tuple(sorted({match[1] for name in elements if (match := _ELEMENT_TYPE.search(name))})),
        )


BENCHMARK = Benchmark(
    name="evalmuse",
    title="EvalMuse-40K",
    source="https://huggingface.co/datasets/DY-Evalab/EvalMuse",
    layout="train_list.json, a JSON array of {prompt, img_path, total_score: [1-5 for each rater], element_score: text "
    "of a dict}; images as unpacked from images.zip",
    size="40,000 images",
    licence="BSD-3-Clause",
    fields={
        "total_score": Field("overall alignment", 1, 5),
        "element_score": Field("share of the prompt's elements that are there", 0, 1, is_checklist=True),
    },
    read=read,
)
