"""GenAI-Bench (Li et al. 2024): 1,600 prompts, six T2I models, three raters each giving 1-5 for alignment.

Source: `GenAIBench_Image` in `dataset.py` of https://github.com/linzhiqiu/t2v_metrics (`genai_image.json`,
`genai_skills.json`, images as `<model>/<index>.jpeg`; the mean over raters is used), and the dataset card
https://huggingface.co/datasets/BaiqiL/GenAI-Bench for the Parquet form (Index, Prompt, Tags, HumanRatings; the images
in columns named by model, which are not read here: save them as `<model>/<index>.jpeg`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, listed
from dyneval.files import tables
from dyneval.files.atomic import read_json
from dyneval.structs import Row


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
    skills: dict[int, list[str]] = {}
    if (path.parent / "genai_skills.json").exists():
        for skill, prompts in read_json(path.parent / "genai_skills.json").items():
            for index in prompts:
                skills.setdefault(int(index), []).append(skill)
    for index, row in read_json(path).items():
        yield index, row["prompt"], row["models"], sorted(skills.get(int(index), []))


def _parquet(path: Path) -> Iterator[tuple[str, str, Row, list[str]]]:
    columns = ("Index", "Prompt", "Tags", "HumanRatings")
    for row in tables.rows(path, columns, needs=columns):
        skills = [*(row["Tags"]["basic"] or []), *(row["Tags"]["advanced"] or [])]
        yield f"{row['Index']:05d}", row["Prompt"], row["HumanRatings"], sorted(skills)


BENCHMARK = Benchmark(
    name="genai-bench",
    title="GenAI-Bench",
    source="https://github.com/linzhiqiu/t2v_metrics and https://huggingface.co/datasets/BaiqiL/GenAI-Bench",
    layout='genai_image.json, {"00000": {"prompt": ..., "models": {"DALLE_3": [1-5 for each rater], ...}}, ...} with '
    "genai_skills.json beside it, or the Parquet file with Index, Prompt, Tags, HumanRatings; images as "
    "<model>/<index>.jpeg",
    fields={"alignment": Field("how well the image matches the prompt", 1, 5)},
    read=read,
)
