"""GenEval 2 (Kamath et al. 2025, arXiv 2512.16853): 800 prompts taken apart into atoms with a skill each.

Source: https://github.com/facebookresearch/GenEval2: `geneval2_data.jsonl` (prompt, atom_count, vqa_list, skills),
the image mapping `{prompt: path}`, and the score lists of `evaluation.py`, one list a prompt with one number an atom,
in the order of the data file. People's answers are expected in that same form, one folder a T2I model. No file of
human ratings of GenEval 2 was found in public; the per-atom answers of its study are described in the paper only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyneval.evaluation.benchmarks.base import Benchmark, Field, RatedImage, inside, listed, numbers
from dyneval.files.atomic import read_json
from dyneval.files.tables import rows


def read(path: Path, field: str) -> Iterator[RatedImage]:
    """Yield the rated images of every folder below `path` that has `score_lists.json` and `image_paths.json`."""
    prompts = list(rows(inside(path, "geneval2_data.jsonl")))
    for folder in sorted(file.parent for file in path.glob("*/score_lists.json")):
        images, scores = read_json(inside(folder, "image_paths.json")), read_json(folder / "score_lists.json")
        # The lists have no ids: one too few would shift the scores of all prompts behind it.
        if len(scores) != len(prompts):
            raise LookupError(f"{folder.name}/score_lists.json has {len(scores)} lists for {len(prompts)} prompts")
        for number, (row, atoms) in enumerate(zip(prompts, scores, strict=True)):
            yield RatedImage(
                item_id=f"{folder.name}/{number:04d}",
                image=images[row["prompt"]],
                prompt=row["prompt"],
                ratings=_ratings(atoms, field),
                model=folder.name,
                categories=(*sorted(set(row["skills"])), f"atoms {row['atom_count']}"),
            )


def _ratings(atoms: Any, field: str) -> tuple[Any, ...]:
    """The mean of the atoms; the atoms themselves where one is no number from 0 to 1, which `load` then tells."""
    try:
        values = numbers(atoms)
    except TypeError:
        return listed(atoms)
    if any(value < 0 or value > 1 for value in values):
        return values
    if not values:
        return (math.nan,)
    # The paper's two scores of a prompt: the geometric mean is 0 as soon as one atom is missed.
    return (math.prod(values) ** (1 / len(values)) if field == "prompt" else sum(values) / len(values),)


BENCHMARK = Benchmark(
    name="geneval2",
    title="GenEval 2",
    source="https://github.com/facebookresearch/GenEval2",
    layout="a folder with geneval2_data.jsonl and one folder a T2I model that holds image_paths.json ({prompt: path}) "
    "and score_lists.json (for each prompt the raters' answer to each atom, 0-1)",
    size="800 prompts; no public ratings",
    licence="CC-BY-NC-4.0",
    fields={
        "atom": Field("arithmetic mean over the atoms of a prompt", 0, 1, is_checklist=True),
        "prompt": Field("geometric mean over the atoms of a prompt", 0, 1, is_checklist=True),
    },
    read=read,
)
