"""Low-rank adapters (LoRA) by peft, on layers of the language model.

The rows of the task tokens and the unfrozen visual parts are trained whole beside them. Training writes adapters; at
its end they are merged into the model that they were trained on, so that the output is an ordinary checkpoint.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from dyneval.checkpoints import base_of
from dyneval.checkpoints.adapters import ROWS, add_task_rows, load_merged, own_rows
from dyneval.processing import Processor
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.modeling import gathered, part_of, read_config, trained_parts

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

ADAPTER = "adapter"
"""Folder of the final adapter in the output folder of a run."""


def add_adapters(model: PreTrainedModel, arguments: ModelArguments) -> PeftModel:
    """Wrap the model for training with adapters.

    Raises:
        TrainingInputError: the language model is frozen, it has no layer of a name, or peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise TrainingInputError("--lora_enable needs peft; run: pip install -e '.[train]'") from error
    if not arguments.tune_mm_llm:
        raise TrainingInputError("--lora_enable adapts the language model, which --tune_mm_llm False freezes")
    targets = target_pattern(model, arguments.lora_modules)
    # An adapter on the whole embedding would train 151,936 rows for the sake of three; so those three are a module of
    # their own. Under ZeRO-3 their values have to be gathered to be read.
    embedding: Any = model.get_input_embeddings()
    with gathered(embedding.weight):
        add_task_rows(model, own_rows(model))
    # Visual modules that the flags unfreeze; of a list each module, since peft wraps what is called.
    flags = trained_parts(arguments)
    base: Any = model.model
    visual: torch.nn.Module = base.visual
    found = []
    for name, child in visual.named_children():
        found += [f"{name}.{n}" for n in range(len(child))] if isinstance(child, torch.nn.ModuleList) else [name]
    named = [f"model.visual.{name}" for name in found if any(True for _ in visual.get_submodule(name).parameters())]
    config = LoraConfig(
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        modules_to_save=[ROWS, *(name for name in named if flags[part_of(name)])],
    )
    # peft would make adapters of a bf16 model in float32. DeepSpeed keeps float32 master weights of them already.
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    name = arguments.model_name_or_path
    # Adapters are read from any current folder, so a base in a folder is named by its whole path.
    config.base_model_name_or_path = str(Path(name).resolve()) if Path(name).is_dir() else name
    return adapted


def target_pattern(model: torch.nn.Module, modules: str) -> str:
    """Return a pattern of the layers that get an adapter: those of the language model with one of these names.

    Raises:
        TrainingInputError: a name is that of no layer.
    """
    names = [name for name in modules.split(",") if name]
    there = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".language_model." in name
    }
    if not names or (unknown := sorted({*names} - there)):
        missing = ", ".join(unknown) if names else "''"
        raise TrainingInputError(f"--lora_modules {missing}: no such layer; there are {', '.join(sorted(there))}")
    return rf".*\.language_model\..*\.({'|'.join(map(re.escape, names))})"


def merge_adapter(checkpoint: Path, output: Path, base: str | None = None, cache_dir: str | None = None) -> None:
    """Merge an adapter into its base model, in float32, and write an ordinary checkpoint in the base's dtype.

    Args:
        checkpoint: folder of the adapter: `checkpoint-N` of a run with `--lora_enable`, or its `adapter`.
        output: folder of the merged checkpoint, with processor and `added_tokens.json`.
        base: model that it was trained on; default: the one that the adapter names.
        cache_dir: folder of downloaded models.

    Raises:
        CheckpointError: no adapter there, or it does not fit the base model.
        TrainingInputError: no base model.
    """
    name = base or base_of(checkpoint)
    try:
        config, model_class = read_config(name, cache_dir)
    except TrainingInputError as error:
        raise TrainingInputError(f"no base model of {checkpoint}: {error}; name it by --model_name_or_path") from error
    load_merged(model_class, checkpoint, name, config, "auto", cache_dir=cache_dir).save_pretrained(output)
    Processor.from_pretrained(checkpoint).save_pretrained(output)
    logger.info("%s merged with %s: %s", checkpoint, name, output)
