"""Checks the model: its family, its task tokens, and the memory that training it takes.

Weights are not read here: a configuration of a few KB says whether a model of many GB can be trained.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from dyneval.errors import CheckpointError, UserError
from dyneval.processing import Processor, TaskTokenError, register_task_tokens
from dyneval.qwen_vocabulary import build_tokenizer
from dyneval.tokens import TASK_TOKEN_IDS
from qwenvl.errors import TrainingInputError
from qwenvl.preflight import CheckResult, Recipe, Status
from qwenvl.train.argument import ModelArguments
from qwenvl.train.memory import Load, Sizes, Zero, check_fits, in_words, patches_of
from qwenvl.train.modeling import read_config


def check_model(recipe: Recipe, arguments: ModelArguments) -> tuple[CheckResult, Sizes | None]:
    """Check family and size, from the configuration alone. The sizes are None where they are not known."""
    import torch

    try:
        config, model_class = read_config(recipe.model)
    except TrainingInputError as error:
        message = f"{error}; name a folder, or where the Hub is in reach an id, by MODEL_NAME_OR_PATH"
        return CheckResult(name="model", status="error", message=message), None
    rows = config.get_text_config().vocab_size
    if rows <= max(TASK_TOKEN_IDS.values()):
        message = (
            f"{recipe.model}: its embedding has {rows} rows, the task tokens need {max(TASK_TOKEN_IDS.values()) + 1}"
        )
        return CheckResult(name="model", status="error", message=message), None
    # On the device "meta" a model has shapes and no memory.
    with torch.device("meta"):
        model = model_class(config)
    try:
        sizes = Sizes.of(model, arguments)
    except TrainingInputError as error:
        return CheckResult(name="model", status="error", message=str(error)), None
    adapters = f", {sizes.adapters / 1e6:.1f} M in adapters" if arguments.lora_enable else ""
    message = f"{recipe.model}: {config.model_type}, {sizes.everything / 1e9:.3f} B parameters, {rows:,} embedding rows"
    return CheckResult(name="model", status="ok", message=message + adapters, details=asdict(sizes)), sizes


def check_tokens(recipe: Recipe) -> tuple[CheckResult, Processor | None]:
    """Check that the task tokens get their ids: in the model's own tokenizer, or in the bundled one without it."""
    try:
        processor = Processor.for_training(recipe.model, recipe.min_pixels, recipe.max_pixels)
    except TaskTokenError as error:
        return CheckResult(name="tokens", status="error", message=str(error)), None
    except CheckpointError as error:
        # Without a network the model's tokenizer may be out of reach; the package has the same vocabulary.
        reason = str(error).splitlines()[0]
        try:
            register_task_tokens(build_tokenizer())
        except (FileNotFoundError, ValueError) as fault:
            message = f"{reason}; bundled vocabulary: {fault}"
            return CheckResult(name="tokens", status="error", message=message), None
        message = f"{reason}; checked with the bundled Qwen3-VL vocabulary instead: task tokens 151669-151671"
        return CheckResult(name="tokens", status="warning", message=message, details=dict(TASK_TOKEN_IDS)), None
    except UserError as error:
        return CheckResult(name="tokens", status="error", message=str(error)), None
    known = "new to it" if processor.added_task_tokens else "known to it"
    message = f"tokenizer of {recipe.model}: task tokens 151669-151671, {known}"
    if differ := processor.limits_differ():
        return CheckResult(name="tokens", status="warning", message=f"{message}; {differ}"), processor
    return CheckResult(name="tokens", status="ok", message=message, details=dict(TASK_TOKEN_IDS)), processor


def check_memory(
    recipe: Recipe, sizes: Sizes | None, devices: dict[str, Any], pixels: int, largest: int
) -> CheckResult:
    """Compare the memory that the run needs with what there is.

    Args:
        recipe: settings of the run.
        sizes: of the model; None where they are not known.
        devices: what `check_devices` found.
        pixels: of an image at most.
        largest: tokens of the largest batch.
    """
    if sizes is None:
        return CheckResult(name="memory", status="warning", message="not estimated: the model is unknown")
    gpus = int(devices.get("gpus", 0))
    counts = []
    for name, default in (("NPROC_PER_NODE", max(1, gpus)), ("NNODES", 1)):
        value = os.environ.get(name) or str(default)
        if not value.isdecimal() or value == "0":
            message = f"{name} is {value!r}, expected a number of 1 or more"
            return CheckResult(name="memory", status="error", message=message)
        counts.append(int(value))
    processes, nodes = counts
    load = Load(
        tokens=largest,
        patches=patches_of(largest, recipe.per_device_train_batch_size, pixels, packing=recipe.data_packing),
        chunks=recipe.loss_chunks if gpus or "LOSS_CHUNKS" in os.environ else 1,  # as the launcher chooses
        ranks=processes * nodes,
        local=processes,
        cpu=not gpus,
    )
    try:
        zero = Zero.read(recipe.deepspeed)
        phases, free = check_fits(sizes, load, zero)
    except UserError as error:
        return CheckResult(name="memory", status="error", message=str(error))
    message = f"{in_words(phases, free)} (ZeRO-{zero.stage}, {load.ranks} device(s), {largest:,} tokens)"
    status: Status = "warning" if max(phases.values()) > free else "ok"
    return CheckResult(name="memory", status=status, message=message, details={"gib": phases, "zero": zero.stage})
