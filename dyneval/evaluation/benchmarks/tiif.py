"""TIIF-Bench (Wei et al. 2025, arXiv 2506.02161): prompts short and long, yes/no questions with target answers.

Source: https://github.com/A113N-W3I/TIIF-Bench, README for prompt files and image folders, `eval/eval_with_vlm.py`
for the result files `<model>/<type>/<short|long>/<index>.json` with `questions`, `gt_answers` and `model_pred`.
People's answers are expected in that same form, with the raters' yes and no in `model_pred`; the rating is the share
that equals the target. No file of human ratings of TIIF-Bench was found in public.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, inside
from dyneval.files import tables
from dyneval.files.atomic import read_json


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of a folder with `prompts/*.jsonl` and `answers/<model>/<type>/<short|long>/<n>.json`."""
    prompts = _prompts(inside(path, "prompts"))
    for file in sorted(inside(path, "answers").glob("*/*/*/*.json")):
        model, kind, length, number = file.parts[-4], file.parts[-3], file.parts[-2], int(file.stem)
        row = read_json(file)
        given, wanted = row["model_pred"], row["gt_answers"]
        if len(given) != len(wanted) or not wanted:
            raise LookupError(f"{file.relative_to(path)} answers {len(given)} of {len(wanted)} questions")
        right = sum(a.strip().lower() == b.strip().lower() for a, b in zip(given, wanted, strict=True))
        yield RatedImage(
            item_id=f"{model}/{kind}/{length}/{number}",
            image=f"{kind}/{model}/{length}_description/{number}.png",
            prompt=prompts[kind][number][f"{length}_description"],
            ratings=(right / len(wanted),),
            model=model,
            categories=(kind, length),
        )


def _prompts(folder: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        rows = list(tables.rows(file))
        if rows:
            found[rows[0]["type"]] = rows
    return found


BENCHMARK = Benchmark(
    name="tiif-bench",
    title="TIIF-Bench",
    source="https://github.com/A113N-W3I/TIIF-Bench",
    layout="a folder with prompts/*.jsonl ({type, short_description, long_description} a line) and "
    "answers/<model>/<type>/<short|long>/<n>.json ({questions, gt_answers, model_pred: the raters' answers}); images "
    "as <type>/<model>/<short|long>_description/<n>.png",
    fields={"followed": Field("share of questions answered as wanted", 0, 1)},
    read=read,
)
