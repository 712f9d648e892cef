"""Checks the annotation files of a run: form, task tokens, images, lengths.

The form of every entry is checked; images are decoded and tokens counted for a random 2,000, or for all with --full. A
single image that cannot be read can end a run of many hours, unless --max_bad_samples allows it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dyneval.errors import DataFileError, ImageError
from dyneval.files.images import load_image
from dyneval.processing import TRAINING_LIMITS, Processor, grid
from qwenvl.data import DatasetSource, data_list, split_list
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import StoredSample, judge
from qwenvl.data.image_folder import check_image_folder
from qwenvl.data.lengths import count_tokens, describe, entry_samples, in_processes
from qwenvl.errors import TrainingInputError
from qwenvl.preflight import CheckResult, Recipe, Status
from qwenvl.preflight.pixels import check_pixels

_SERIAL_LIMIT = 500
"""Fewer entries are checked without a pool of processes."""
SAMPLED = 2000
"""Entries whose images are decoded and whose tokens are counted, without --full."""


@dataclass(frozen=True, slots=True)
class CheckedEntry:
    """What the check of one annotation entry found: its tokens and task, or its problem."""

    tokens: int = 0
    task: str = ""
    problem: str = ""


def find_sources(recipe: Recipe) -> tuple[list[CheckResult], list[tuple[DatasetSource, AnnotationFile]]]:
    """Open the files of the datasets and of their held-out splits.

    Returns:
        What is wrong with some, and the others with their datasets, each file once.
    """
    found: dict[tuple[Path, Path], tuple[DatasetSource, AnnotationFile]] = {}
    problems: list[CheckResult] = []
    names = [name.strip() for name in recipe.dataset_use.split(",") if name.strip()]
    for name in names or [""]:
        try:
            sources = data_list([name])
            if recipe.eval_split:
                sources += split_list(sources, recipe.eval_split)
        except TrainingInputError as error:
            problems.append(CheckResult(name=name or "data", status="error", message=str(error)))
            continue
        for source in sources:
            try:
                annotations = AnnotationFile(source.annotation)
                check_image_folder(source, annotations)
            except (TrainingInputError, DataFileError) as error:
                problems.append(CheckResult(name=source.name, status="error", message=str(error)))
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
) -> list[CheckResult]:
    """Run all checks of one annotation file and its images.

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
    every: Sequence[int] = range(count)
    if not full and count > SAMPLED:
        # A fixed seed, so that two runs of the check look at the same images.
        drawn = np.random.default_rng(0).choice(count, SAMPLED, replace=False)
        every = sorted(int(index) for index in drawn)
    look = partial(_look, annotations=annotations, source=source)
    structure = list(in_processes(look, range(count), workers, _SERIAL_LIMIT))
    deep = list(in_processes(partial(look, processor=processor, deep=True), every, workers, _SERIAL_LIMIT))
    pixels = [check_pixels(name, source, annotations, processor, recipe.model)] if processor else []
    return [
        *pixels,
        _problems(f"{name}: samples", structure, count),
        _problems(f"{name}: images", deep, len(every)),
        _lengths(source, [one.tokens for one in deep if one.tokens], recipe, count, ranks),
    ]


def _look(
    index: int,
    annotations: AnnotationFile,
    source: DatasetSource,
    processor: Processor | None = None,
    deep: bool = False,
) -> CheckedEntry:
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
        problems = [str(error), *(line for sample in entry_samples(entry) for line in explain(sample))]
        return CheckedEntry(problem=f"{describe(entry, index, source.annotation)}: {'; '.join(problems)}")
    return CheckedEntry(tokens, task)


def _check_image(name: str, root: Path) -> None:
    image = load_image(name, root=root)
    try:
        grid(*image.size, TRAINING_LIMITS)  # whatever the limits, they forbid the same shapes
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def explain(sample: Any) -> list[str]:
    """Return what is wrong with a sample's form, by the schema of `StoredSample`; [] without jsonschema."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        return []
    validator = Draft202012Validator(msgspec.json.schema(StoredSample))
    errors = sorted(validator.iter_errors(sample), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def find_unreadable(annotation: Path, data: Path, workers: int) -> tuple[int, list[str]]:
    """Return the number of entries, and a line for each that cannot be trained on; every image is decoded.

    Args:
        annotation: annotation file, JSON or JSONL.
        data: folder of its images.
        workers: processes.

    Raises:
        DataFileError: the annotation file is not JSON, or holds no samples.
    """
    annotations = AnnotationFile(annotation)
    source = DatasetSource(name=annotation.stem, annotation=annotation, data=data)
    look = partial(_look, annotations=annotations, source=source, deep=True)
    found = list(in_processes(look, range(len(annotations)), workers, _SERIAL_LIMIT))
    return len(annotations), [one.problem for one in found if one.problem]


def _problems(name: str, looked: list[CheckedEntry], count: int) -> CheckResult:
    bad = [one.problem for one in looked if one.problem]
    tasks = Counter(one.task for one in looked if one.task)
    details = {"checked": count, "bad": len(bad), "first_problems": bad[:20], "tasks": dict(tasks)}
    if bad:
        return CheckResult(
            name=name, status="error", message=f"{len(bad)} of {count} bad; first: {bad[0]}", details=details
        )
    shown = ", ".join(f"{number} {task}" for task, number in sorted(tasks.items()))
    return CheckResult(name=name, status="ok", message=f"{count} checked: {shown}", details=details)


def _lengths(source: DatasetSource, lengths: list[int], recipe: Recipe, count: int, ranks: int) -> CheckResult:
    name = source.name
    if not lengths:
        return CheckResult(
            name=f"{name}: lengths", status="warning", message="not counted: no tokenizer, or no good sample"
        )
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
    # Packed batches are full by construction; of others the largest is found by drawing (`largest_batch`).
    fitting = tokens[tokens <= recipe.model_max_length]
    if recipe.data_packing:
        details["largest_batch"] = recipe.model_max_length * recipe.per_device_train_batch_size
    elif len(fitting):
        details["largest_batch"] = largest_batch(fitting, recipe.per_device_train_batch_size)
    status: Status = "warning" if over > 0.01 else "ok"
    return CheckResult(name=f"{name}: lengths", status=status, message=message, details=details)
