"""The annotations of both stages, or of the one file with both: schema, task tokens, images, lengths."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dyneval.errors import DataFileError, ImageError
from dyneval.files.images import load_image
from dyneval.processing import TRAINING_LIMITS, Processor, grid
from dyneval.work.processes import forked_pool
from qwenvl.data import DatasetSource, data_list, split_list
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import StoredSample, judge
from qwenvl.data.image_folder import check_image_folder
from qwenvl.data.lengths import count_tokens, describe, entry_samples
from qwenvl.errors import TrainingInputError
from qwenvl.preflight import Check, Recipe, Status
from qwenvl.preflight.pixels import check_pixels

SAMPLED = 2000
"""Entries whose images are decoded and whose tokens are counted, unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What looking at one annotation entry found."""

    tokens: int = 0
    task: str = ""
    problem: str = ""


def find_sources(recipe: Recipe) -> tuple[list[Check], list[tuple[DatasetSource, AnnotationFile]]]:
    """The files of the datasets and of their held-out splits: what is wrong with some, and the others, each once."""
    found: dict[tuple[Path, Path], tuple[DatasetSource, AnnotationFile]] = {}
    problems: list[Check] = []
    names = [name.strip() for name in recipe.dataset_use.split(",") if name.strip()]
    for name in names or [""]:
        try:
            sources = data_list([name])
            if recipe.eval_split:
                sources += split_list(sources, recipe.eval_split)
        except TrainingInputError as error:
            problems.append(Check(name=name or "data", status="error", message=str(error)))
            continue
        for source in sources:
            try:
                annotations = AnnotationFile(source.annotation)
                check_image_folder(source, annotations)
            except (TrainingInputError, DataFileError) as error:
                problems.append(Check(name=source.name, status="error", message=str(error)))
                continue
            found.setdefault((source.annotation, source.data), (source, annotations))
    return problems, list(found.values())


def check_source(
    source: DatasetSource,
    annotations: AnnotationFile,
    recipe: Recipe,
    processor: Processor | None,
    full: bool,
    workers: int,
    ranks: int,
) -> list[Check]:
    """All checks of one annotation file and its images.

    Args:
        source: the file and its folder.
        annotations: the file, open.
        recipe: settings of the run.
        processor: counts tokens; None leaves lengths out.
        full: decode every image and count every sample instead of a random 2,000.
        workers: processes.
        ranks: devices that share a step.
    """
    name, count = source.name, len(annotations)
    every = range(count) if full or count <= SAMPLED else _draw(count)
    look = partial(_look, annotations=annotations, source=source)
    structure = list(_parallel(look, range(count), workers))
    deep = list(_parallel(partial(look, processor=processor, deep=True), every, workers))
    pixels = [check_pixels(name, source, annotations, processor, recipe.model)] if processor else []
    return [
        *pixels,
        _problems(f"{name}: samples", structure, count),
        _problems(f"{name}: images", deep, len(every)),
        _lengths(source, [one.tokens for one in deep if one.tokens], recipe, count, ranks),
    ]


def _draw(count: int) -> list[int]:
    return sorted(int(index) for index in np.random.default_rng(0).choice(count, SAMPLED, replace=False))


def _parallel(one: Any, indices: Any, workers: int) -> Iterator[Looked]:
    if workers < 2 or len(indices) < 500:
        yield from map(one, indices)
        return
    with forked_pool(workers) as pool:
        yield from pool.imap(one, indices, chunksize=64)


def _look(
    index: int,
    annotations: AnnotationFile,
    source: DatasetSource,
    processor: Processor | None = None,
    deep: bool = False,
) -> Looked:
    entry = annotations[index]
    try:
        tokens, task = 0, ""
        for sample in entry_samples(entry):
            conversation = judge(sample, source.tasks)
            task = conversation.task or ""
            if deep:
                for name in conversation.images:
                    _check_image(name, source.data)
                tokens += count_tokens(conversation, source.data, processor) if processor else 0
    except (TrainingInputError, ImageError, ValueError) as error:
        told = [str(error), *(line for sample in entry_samples(entry) for line in explain(sample))]
        return Looked(problem=f"{describe(entry, index, source.annotation)}: {'; '.join(told)}")
    return Looked(tokens, task)


def _check_image(name: str, root: Path) -> None:
    image = load_image(name, root=root)
    try:
        grid(*image.size, TRAINING_LIMITS)  # whatever the limits, they forbid the same shapes
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def explain(sample: Any) -> list[str]:
    """All that is wrong with a sample's form, by the schema of what training reads; nothing without jsonschema."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return []
    validator = Draft202012Validator(msgspec.json.schema(StoredSample))
    errors = sorted(validator.iter_errors(sample), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def find_unreadable(annotation: Path, data: Path, workers: int) -> tuple[int, list[str]]:
    """Number of entries, and one line for each with an image that cannot be used, in order. Raises DataFileError."""
    annotations = AnnotationFile(annotation)
    source = DatasetSource(name=annotation.stem, annotation=annotation, data=data)
    look = partial(_look, annotations=annotations, source=source, deep=True)
    found = list(_parallel(look, range(len(annotations)), workers))
    return len(annotations), [one.problem for one in found if one.problem]


def _problems(name: str, looked: list[Looked], count: int) -> Check:
    bad = [one.problem for one in looked if one.problem]
    tasks = Counter(one.task for one in looked if one.task)
    details = {"checked": count, "bad": len(bad), "first_problems": bad[:20], "tasks": dict(tasks)}
    if bad:
        return Check(name=name, status="error", message=f"{len(bad)} of {count} bad; first: {bad[0]}", details=details)
    shown = ", ".join(f"{number} {task}" for task, number in sorted(tasks.items()))
    return Check(name=name, status="ok", message=f"{count} checked: {shown}", details=details)


def _lengths(source: DatasetSource, lengths: list[int], recipe: Recipe, count: int, ranks: int) -> Check:
    name = source.name
    if not lengths:
        return Check(name=f"{name}: lengths", status="warning", message="not counted: no tokenizer, or no good sample")
    from qwenvl.train.memory import largest_batch

    tokens = np.array(lengths)
    over = float((tokens > recipe.model_max_length).mean())
    used = count * source.rate * (1 - over)
    batch = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * ranks
    steps = math.ceil(math.ceil(used / batch) * recipe.num_train_epochs)
    quantiles = {f"p{q}": int(np.percentile(tokens, q)) for q in (5, 25, 50, 75, 95, 99)} | {"max": int(tokens.max())}
    edges = [0, 128, 256, 512, 1024, 2048, 4096, 8192, 1 << 30]
    histogram = {f"<{high}": int(n) for high, n in zip(edges[1:], np.histogram(tokens, edges)[0], strict=True) if n}
    shown = ", ".join(f"{key} {value}" for key, value in quantiles.items())
    message = (
        f"tokens {shown}; about {round(count * over)} over {recipe.model_max_length} skipped; {steps} steps of {batch}"
    )
    details = {"quantiles": quantiles, "histogram": histogram, "skipped": round(count * over), "steps": steps}
    fitting = tokens[tokens <= recipe.model_max_length]
    if recipe.data_packing:
        details["largest_batch"] = recipe.model_max_length * recipe.per_device_train_batch_size
    elif len(fitting):
        details["largest_batch"] = largest_batch(fitting, recipe.per_device_train_batch_size)
    status: Status = "warning" if over > 0.01 else "ok"
    return Check(name=f"{name}: lengths", status=status, message=message, details=details)
