"""The annotations of both stages, or of the one file with both: schema, task tokens, images, lengths."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dyneval.errors import DataFileError, ImageError, SchemaError
from dyneval.files.images import load_image
from dyneval.processing import Processor
from dyneval.records import InstructSample
from dyneval.tokens import EVALUATION, IMAGE, IQA, T2IA, TASK_TOKENS, contains_task_token
from dyneval.work.processes import forked_pool
from qwenvl.data import DatasetSource, data_list
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.conversation import parse_sample
from qwenvl.data.image_folder import check_image_folder
from qwenvl.data.lengths import describe, entry_samples, sample_tokens
from qwenvl.errors import TrainingInputError
from qwenvl.preflight import Check, Recipe, Status

ALLOWED: dict[str, tuple[str, ...]] = {
    "dynevalinstruct_t2ia": (T2IA, EVALUATION),
    "dynevalinstruct_iqa": (IQA, EVALUATION),
    "dynevalinstruct": TASK_TOKENS,
}
"""Task tokens of each dataset's samples."""
SAMPLED = 2000
"""Entries whose images are decoded and whose tokens are counted, unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What looking at one annotation entry found."""

    tokens: int = 0
    task: str = ""
    problem: str = ""


def stages() -> tuple[str, ...]:
    """The datasets to be checked: the two halves, or the one file with both where only that is named."""
    whole = os.environ.get("DYNEVALINSTRUCT_ANNOTATION") or os.environ.get("DYNEVALINSTRUCT_DATA")
    halves = any(os.environ.get(f"DYNEVALINSTRUCT_{half}_ANNOTATION") for half in ("T2IA", "IQA"))
    return ("dynevalinstruct",) if whole and not halves else ("dynevalinstruct_t2ia", "dynevalinstruct_iqa")


def check_stage(
    name: str, recipe: Recipe, processor: Processor | None, full: bool, workers: int, ranks: int
) -> list[Check]:
    """All checks of one stage's dataset.

    Args:
        name: of the dataset in the registry.
        recipe: settings of the run.
        processor: counts tokens; None leaves lengths out.
        full: decode every image and count every sample instead of a random 2,000.
        workers: processes.
        ranks: devices that share a step.
    """
    try:
        (source,) = data_list([name])
        annotations = AnnotationFile(source.annotation)
        check_image_folder(source, annotations)
    except (TrainingInputError, DataFileError) as error:
        return [Check(name=name, status="error", message=str(error))]
    count = len(annotations)
    every = range(count) if full or count <= SAMPLED else _draw(count)
    look = partial(_look, annotations=annotations, source=source, allowed=ALLOWED[name])
    structure = list(_parallel(look, range(count), workers))
    deep = list(_parallel(partial(look, processor=processor, deep=True), every, workers))
    return [
        _problems(f"{name}: samples", structure, count),
        _problems(f"{name}: images", deep, len(every)),
        _lengths(name, [one.tokens for one in deep if one.tokens], recipe, count, ranks),
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
    allowed: tuple[str, ...],
    processor: Processor | None = None,
    deep: bool = False,
) -> Looked:
    entry = annotations[index]
    try:
        tokens, task = 0, ""
        for sample in entry_samples(entry):
            task = check_sample(sample, allowed)
            if deep:
                for name in parse_sample(sample).images:
                    load_image(name, root=source.data)
                tokens += sample_tokens(sample, source.data, processor) if processor else 0
    except (TrainingInputError, SchemaError, ImageError, ValueError) as error:
        return Looked(problem=f"{describe(entry, index, source.annotation)}: {error}")
    return Looked(tokens, task)


def check_sample(sample: Any, allowed: tuple[str, ...]) -> str:
    """Check one sample's schema and task tokens; returns the task token of its human turn.

    Raises:
        SchemaError: it is no `InstructSample`.
        TrainingInputError: its task token is missing, not one of `allowed`, or stands in the answer; or it has an image
            where its task has none, or none where it needs one.
    """
    InstructSample.from_dict(sample, "sample")
    conversation = parse_sample(sample)
    task = conversation.task
    if task is None:
        raise TrainingInputError(f"its human turn does not begin with a task token ({', '.join(TASK_TOKENS)})")
    if task not in allowed:
        raise TrainingInputError(f"its task token is {task}; this stage trains {' and '.join(allowed)}")
    if bool(conversation.images) != (task != T2IA):
        raise TrainingInputError(f"a {task} sample {'has no' if task == T2IA else 'needs an'} image ({IMAGE})")
    if any(contains_task_token(turn.text) for turn in conversation.turns if turn.role == "assistant"):
        raise TrainingInputError("its answer holds a task token")
    return task


def _problems(name: str, looked: list[Looked], count: int) -> Check:
    bad = [one.problem for one in looked if one.problem]
    tasks = Counter(one.task for one in looked if one.task)
    details = {"checked": count, "bad": len(bad), "first_problems": bad[:20], "tasks": dict(tasks)}
    if bad:
        return Check(name=name, status="error", message=f"{len(bad)} of {count} bad; first: {bad[0]}", details=details)
    shown = ", ".join(f"{number} {task}" for task, number in sorted(tasks.items()))
    return Check(name=name, status="ok", message=f"{count} checked: {shown}", details=details)


def _lengths(name: str, lengths: list[int], recipe: Recipe, count: int, ranks: int) -> Check:
    if not lengths:
        return Check(name=f"{name}: lengths", status="warning", message="not counted: no tokenizer, or no good sample")
    tokens = np.array(lengths)
    over = float((tokens > recipe.model_max_length).mean())
    used = count * (1 - over)
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
    status: Status = "warning" if over > 0.01 else "ok"
    return Check(name=f"{name}: lengths", status=status, message=message, details=details)
