"""T2I-CoReBench (2025): 1,080 prompts of 12 tasks, a checklist of yes/no questions each.

Source: `evaluate.py` of https://github.com/KwaiVGI/T2I-CoReBench: images `<model>/<task>/<id>.png`, result files
`<model>/<task>-<judge>.json` with {id: {"Prompt", "Checklist": [{"question", "score": 0 or 1}], "image_score"},
"mean_score"}. People's answers are expected in that same form, as `<task>-human.json`; the rating is the mean of the
checklist, questions without a score left out as there. No file of human ratings of T2I-CoReBench was found in public.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files.atomic import read_json


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of every `<model>/<task>-human.json` below `path`."""
    for file in sorted(path.glob("*/*-human.json")):
        model, task = file.parent.name, file.stem.removesuffix("-human")
        for name, row in read_json(file).items():
            # Beside the prompts stands the mean over them, which is no entry.
            if name == "mean_score":
                continue
            yield RatedImage(
                item_id=f"{model}/{task}/{name}",
                image=f"{model}/{task}/{name}.png",
                prompt=row["Prompt"],
                # A question without a score is NaN, and `RatedImage.rating` passes over it as the authors do.
                ratings=tuple(value for entry in row["Checklist"] for value in listed(entry.get("score"))),
                model=model,
                categories=(task,),
            )


BENCHMARK = Benchmark(
    name="t2i-corebench",
    title="T2I-CoReBench",
    source="https://github.com/KwaiVGI/T2I-CoReBench",
    layout='a folder with <model>/<task>-human.json ({id: {"Prompt", "Checklist": [{"question", "score": 0 or 1}]}}); '
    "images as <model>/<task>/<id>.png",
    size="1,080 prompts; results of judges",
    licence="Apache-2.0",
    fields={"checklist": Field("share of the checklist that holds", 0, 1, is_checklist=True)},
    read=read,
)
