"""EvalMi-50K of LMM4LMM (Wang et al. 2025, arXiv 2504.08358): mean opinion scores of 50,400 images of 24 T2I models.

Source: https://huggingface.co/datasets/wangjiarui/EvalMi-50K; https://github.com/IntMeGroup/LMM4LMM trains
"perception" on mos1 and "correspondence" on mos2 (`shell/infer_perception.sh`, `data/mos1.json`, `data/mos2.json`).
The four text files, one line an image (`imgnames.txt`, `mos1.txt`, `mos2.txt`) or a prompt (`prompts.txt`), and that
an image's number counts prompts from 1, are taken from a public reader of the data set, since the files themselves
could not be looked at. The scale of the scores is not stated there and is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, inside, listed

_FILES = {"correspondence": "mos2.txt", "perception": "mos1.txt"}


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of a folder with the four text files."""
    prompts = _lines(inside(path, "prompts.txt"))
    names, scores = _lines(inside(path, "imgnames.txt")), _lines(inside(path, _FILES[field]))
    if len(names) != len(scores):
        raise LookupError(f"imgnames.txt has {len(names)} lines and {_FILES[field]} has {len(scores)}")
    for name, score in zip(names, scores, strict=True):
        image = PurePosixPath(name)
        number = int(image.stem) if image.stem.isdecimal() else 0
        if not 1 <= number <= len(prompts):
            raise LookupError(f"image {name} is not numbered like one of the {len(prompts)} prompts")
        yield RatedImage(
            item_id=name,
            image=name,
            prompt=prompts[number - 1],
            ratings=listed(score),
            model=image.parts[-2] if len(image.parts) > 1 else None,
        )


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


BENCHMARK = Benchmark(
    name="evalmi",
    title="EvalMi-50K (LMM4LMM)",
    source="https://huggingface.co/datasets/wangjiarui/EvalMi-50K",
    layout="a folder with prompts.txt, imgnames.txt (<model>/<prompt number>.png), mos1.txt and mos2.txt, one a line",
    fields={"correspondence": Field("T2I correspondence, mos2"), "perception": Field("perceived quality, mos1")},
    read=read,
)
