"""GenAI-Bench (Li et al. 2024): 1,600 prompts, six T2I models, three raters each giving 1-5 for alignment.

Source: `GenAIBench_Image` in `dataset.py` of https://github.com/linzhiqiu/t2v_metrics (`genai_image.json`,
`genai_skills.json`, images as `<model>/<index>.jpeg`; the mean over raters is used), and the dataset card
https://huggingface.co/datasets/BaiqiL/GenAI-Bench for the two Parquet forms: Index, Prompt, Tags, HumanRatings, or
(from commit 6e372a64) Index, prompt, basic_skills, advanced_skills and a column <model>_HumanRating each, with lists as
texts. Images in columns named by model are not read here: save them as `<model>/<index>.jpeg`. Two of the published
ratings are 41 and 33.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files import tables
from dyneval.files.atomic import read_json
from dyneval.files.parquet import reading
from dyneval.files.row import texts_of
from dyneval.structs import Row

# End of the names of the columns with ratings in the newer Parquet form.
_RATING = "_HumanRating"


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of `genai_image.json` (or of a Parquet file), with skills where they are given."""
    rows = _parquet(path) if path.suffix.lower() == ".parquet" else _json(path)
    for index, prompt, by_model, skills in rows:
        for model, ratings in by_model.items():
            name = f"{model}/{index}.jpeg"
            yield RatedImage(
                item_id=f"{model}/{index}",
                image=name,
                prompt=prompt,
                ratings=listed(ratings),
                model=model,
                categories=tuple(skills),
            )


def _json(path: Path) -> Iterator[tuple[str, str, Row, list[str]]]:
    # The file lists the prompts of a skill, as numbers without the leading zeros that the prompts' ids have.
    skills: dict[int, list[str]] = {}
    if (path.parent / "genai_skills.json").exists():
        for skill, prompts in read_json(path.parent / "genai_skills.json").items():
            for index in prompts:
                skills.setdefault(int(index), []).append(skill)
    for index, row in read_json(path).items():
        yield index, row["prompt"], row["models"], sorted(skills.get(int(index), []))


def _parquet(path: Path) -> Iterator[tuple[str, str, Row, list[str]]]:
    import polars as pl

    # The schema alone: a published file with its images has 4.76 GB.
    with reading(path):
        names = pl.read_parquet_schema(path)
    rated = [name for name in names if name.endswith(_RATING)]
    if rated:
        columns = ("Index", "prompt", "basic_skills", "advanced_skills", *rated)
        for row in tables.rows(path, columns, needs=columns[:2]):
            skills = [skill for name in columns[2:4] for skill in texts_of(_value(row.get(name)))]
            ratings = {name.removesuffix(_RATING): _value(row[name]) for name in rated}
            yield f"{int(row['Index']):05d}", row["prompt"], ratings, sorted(skills)
        return
    columns = ("Index", "Prompt", "Tags", "HumanRatings")
    for row in tables.rows(path, columns, needs=columns):
        tags, ratings = _value(row["Tags"]), _value(row["HumanRatings"])
        skills = [*(tags["basic"] or []), *(tags["advanced"] or [])]
        yield f"{int(row['Index']):05d}", row["Prompt"], ratings, sorted(skills)


def _value(value: Any) -> Any:
    """A list or dictionary, which may be written as its Python text; any other text stays as it is."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


BENCHMARK = Benchmark(
    name="genai-bench",
    title="GenAI-Bench",
    source="https://github.com/linzhiqiu/t2v_metrics and https://huggingface.co/datasets/BaiqiL/GenAI-Bench",
    layout='genai_image.json, {"00000": {"prompt": ..., "models": {"DALLE_3": [1-5 for each rater], ...}}, ...} with '
    "genai_skills.json beside it, or the Parquet file with Index, Prompt, Tags, HumanRatings (or <model>_HumanRating); "
    "images as <model>/<index>.jpeg",
    size="1,600 (or 527) prompts, 9,600 (3,162) images",
    licence="Apache-2.0",
    fields={"alignment": Field("how well the image matches the prompt", 1, 5)},
    read=read,
)
