"""The model: its family, its task tokens, its memory."""

from __future__ import annotations

import json
from typing import Any

from dyneval.processing import Processor, TaskTokenError, register_task_tokens
from dyneval.tokens import TASK_TOKEN_IDS
from qwenvl.errors import TrainingInputError
from qwenvl.preflight import Check, Recipe, Status
from qwenvl.train.lora import adapter_size
from qwenvl.train.modeling import FAMILIES, part_of


def check_model(recipe: Recipe) -> tuple[Check, dict[str, int]]:
    """Family and size, from the configuration alone; also the number of parameters by part (empty when unknown).

    Adapters are a part of their own, where the recipe has them.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(recipe.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        message = f"{recipe.model}: no configuration found ({reason}); set MODEL_NAME_OR_PATH to a folder when offline"
        return Check(name="model", status="error", message=message), {}
    if config.model_type not in FAMILIES:
        message = f"{recipe.model}: is a {config.model_type} model; DynEval fine-tunes {' and '.join(FAMILIES)}"
        return Check(name="model", status="error", message=message), {}
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    sizes = {"vision": 0, "merger": 0, "language": 0}
    for name, parameter in model.named_parameters():
        sizes[part_of(name)] += parameter.numel()
    rows = config.get_text_config().vocab_size
    if rows <= max(TASK_TOKEN_IDS.values()):
        message = (
            f"{recipe.model}: its embedding has {rows} rows, the task tokens need {max(TASK_TOKEN_IDS.values()) + 1}"
        )
        return Check(name="model", status="error", message=message), sizes
    message = (
        f"{recipe.model}: {config.model_type}, {sum(sizes.values()) / 1e9:.3f} B parameters, {rows:,} embedding rows"
    )
    if recipe.lora_enable:
        try:
            sizes["adapters"] = adapter_size(model, recipe.lora_r, recipe.lora_modules)
        except TrainingInputError as error:
            return Check(name="model", status="error", message=str(error)), sizes
        message += f", {sizes['adapters'] / 1e6:.1f} M in adapters"
    return Check(name="model", status="ok", message=message, details={"parameters": sizes}), sizes


def check_tokens(recipe: Recipe) -> tuple[Check, Processor | None]:
    """The task tokens get their ids: with the model's own tokenizer, or the bundled one where that is out of reach."""
    try:
        processor = Processor.for_training(recipe.model, recipe.min_pixels, recipe.max_pixels)
    except TaskTokenError as error:
        return Check(name="tokens", status="error", message=str(error)), None
    except ValueError as error:
        return _check_bundled(str(error).splitlines()[0]), None
    known = "new to it" if processor.added_task_tokens else "known to it"
    message = f"tokenizer of {recipe.model}: task tokens 151669-151671, {known}"
    if differ := processor.limits_differ():
        return Check(name="tokens", status="warning", message=f"{message}; {differ}"), processor
    return Check(name="tokens", status="ok", message=message, details=dict(TASK_TOKEN_IDS)), processor


def _check_bundled(reason: str) -> Check:
    from dyneval.qwen_vocabulary import build_tokenizer

    try:
        register_task_tokens(build_tokenizer())
    except (FileNotFoundError, ValueError) as error:
        return Check(name="tokens", status="error", message=f"{reason}; bundled vocabulary: {error}")
    message = f"{reason}; checked with the bundled Qwen3-VL vocabulary instead: task tokens 151669-151671"
    return Check(name="tokens", status="warning", message=message, details=dict(TASK_TOKEN_IDS))


def check_memory(recipe: Recipe, sizes: dict[str, int], devices: dict[str, Any]) -> Check:
    """Memory a GPU needs: weights, gradients and optimizer under the chosen ZeRO stage, and the logits of one piece."""
    try:
        stage = json.loads(recipe.deepspeed.read_text())["zero_optimization"]["stage"]
    except (OSError, ValueError, KeyError) as error:
        message = f"{recipe.deepspeed}: no DeepSpeed configuration with a ZeRO stage ({error}); set DEEPSPEED"
        return Check(name="memory", status="error", message=message)
    if not sizes:
        return Check(name="memory", status="warning", message="not estimated: the model is unknown")
    ranks = max(1, int(devices.get("gpus", 0)))
    needed = memory_gib(recipe, sizes, stage, ranks)
    shown = ", ".join(f"{part} {size:.1f}" for part, size in needed.items())
    total = sum(needed.values())
    message = f"about {total:.1f} GiB a device (ZeRO-{stage}, {ranks} device(s)): {shown}"
    available = min(devices.get("memory_gib", [0]))
    status: Status = "warning" if available and total > available else "ok"
    return Check(name="memory", status=status, message=message, details={"gib": needed, "zero": stage})


def trained_size(recipe: Recipe, sizes: dict[str, int]) -> int:
    """Number of parameters that the recipe trains."""
    language = recipe.tune_mm_llm and not recipe.lora_enable
    flags = {"vision": recipe.tune_mm_vision, "merger": recipe.tune_mm_mlp, "language": language, "adapters": True}
    return sum(size for part, size in sizes.items() if flags[part])


def memory_gib(recipe: Recipe, sizes: dict[str, int], stage: int, ranks: int) -> dict[str, float]:
    """Estimate by part: 2 bytes a parameter for weights and gradients, 12 for float32 weights and Adam's moments.

    Activations are those kept by gradient checkpointing (one hidden state a layer and token) for a full sequence;
    logits those of one eighth of it, in float32, twice. Both are upper bounds at Qwen3-VL-4B's 36 layers of 2560.
    """
    everything, trained = sum(sizes.values()), trained_size(recipe, sizes)
    tokens = recipe.model_max_length
    parts = {
        "weights": 2 * everything / (ranks if stage == 3 else 1),
        "gradients": 2 * trained / (ranks if stage >= 2 else 1),
        "optimizer": 12 * trained / (ranks if stage >= 1 else 1),
        "activations": 2 * 36 * 2560 * tokens if everything > 1e8 else 0,
        "logits": 2 * 4 * 151_936 * tokens / 8,
    }
    return {part: size / 2**30 for part, size in parts.items()}
