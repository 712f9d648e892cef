"""Low-rank adapters by peft: the language model's attention adapted, task rows and unfrozen visual parts trained whole.

Training writes adapters; at its end they are merged into the model they were trained on, and the run's output is an
ordinary checkpoint as without adapters.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from dyneval.checkpoints.weights import check_finite, load_weights
from dyneval.processing import Processor
from dyneval.tokens import TASK_TOKEN_IDS
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.modeling import gathered, part_of, read_config, trained_parts

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

TARGETS = r".*\.language_model\..*\.(q_proj|k_proj|v_proj|o_proj)"
"""Layers that get an adapter, as in Qwen's folder."""
ADAPTER = "adapter"
"""Folder of the final adapter in the output of a run."""
_ROWS = "task_rows"


class TaskRows(torch.nn.Module):
    """The embedding rows of the task tokens, which are trained while the table that they belong to is frozen.

    peft's `trainable_token_indices` would do the same, but copies the whole table in every use, of which the loss makes
    one a piece, and reads a table that ZeRO-3 has not gathered.
    """

    ids: torch.Tensor

    def __init__(self, rows: torch.Tensor) -> None:
        """Start from `rows`, (3, H) in the order of `TASK_TOKEN_IDS`."""
        super().__init__()
        self.weight = torch.nn.Parameter(rows.detach().clone())
        self.register_buffer("ids", torch.tensor(list(TASK_TOKEN_IDS.values())), persistent=False)

    def forward(self, output: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Put the rows in place.

        Args:
            output: embeddings (B, T, H), or logits (..., V).
            seen: what they were made of: token ids (B, T), or hidden states (..., H).

        Returns:
            `output` with the embeddings, or the logits, of the task tokens from these rows.
        """
        if not seen.is_floating_point():
            match = (seen[..., None] == self.ids).to(self.weight.dtype)
            return torch.where(match.any(-1, keepdim=True), match @ self.weight, output)
        return output.index_copy(-1, self.ids, (seen @ self.weight.T).to(output.dtype))


def add_task_rows(model: PreTrainedModel) -> None:
    """Give the model its `task_rows`; they act on the embedding, and on the output where both are one table."""
    embedding: Any = model.get_input_embeddings()
    with gathered(embedding.weight):
        rows = embedding.weight[list(TASK_TOKEN_IDS.values())].detach().clone()
    setattr(model, _ROWS, TaskRows(rows))

    def replace(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return getattr(model, _ROWS)(output, inputs[0])

    layers: list[Any] = [embedding, model.get_output_embeddings()] if model.config.tie_word_embeddings else [embedding]
    model.__dict__["_task_row_hooks"] = [layer.register_forward_hook(replace) for layer in layers]


def add_adapters(model: PreTrainedModel, arguments: ModelArguments) -> PeftModel:
    """Wrap the model for training with adapters; visual parts that the tune flags unfreeze are trained whole.

    Raises:
        TrainingInputError: the language model is frozen, or peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise TrainingInputError("--lora_enable needs peft; run: pip install -e '.[train]'") from error
    if not arguments.tune_mm_llm:
        raise TrainingInputError("--lora_enable adapts the language model, which --tune_mm_llm False freezes")
    add_task_rows(model)
    config = LoraConfig(
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=TARGETS,
        modules_to_save=[_ROWS, *_visual_modules(model, arguments)],
    )
    # The adapters have the model's dtype: DeepSpeed keeps float32 master weights of what is trained in bf16.
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def adapter_size(model: torch.nn.Module, rank: int) -> int:
    """Number of parameters of the adapters that `add_adapters` would put beside the language model's layers."""
    layers = [module for name, module in model.named_modules() if re.fullmatch(TARGETS, name)]
    return sum(rank * sum(layer.weight.shape) for layer in layers if isinstance(layer, torch.nn.Linear))


def _visual_modules(model: PreTrainedModel, arguments: ModelArguments) -> list[str]:
    """Names of the visual modules that the flags unfreeze; each of a list, since peft wraps modules that are called."""
    flags = trained_parts(arguments)
    base: Any = model.model
    visual: torch.nn.Module = base.visual
    found = []
    for name, child in visual.named_children():
        found += [f"{name}.{n}" for n in range(len(child))] if isinstance(child, torch.nn.ModuleList) else [name]
    named = [f"model.visual.{name}" for name in found if any(True for _ in visual.get_submodule(name).parameters())]
    return [name for name in named if flags[part_of(name)]]


def merge_adapter(checkpoint: Path, output: Path, base: str | None = None, cache_dir: str | None = None) -> None:
    """Merge an adapter into its base model, in float32, and write an ordinary checkpoint in the base's dtype.

    Args:
        checkpoint: folder of the adapter: `checkpoint-N` of a run with `--lora_enable`, or its `adapter`.
        output: folder of the merged checkpoint, with processor and `added_tokens.json`.
        base: model that it was trained on; default: the one that the adapter names.
        cache_dir: folder of downloaded models.

    Raises:
        TrainingInputError: no adapter there, or no base model.
    """
    from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(checkpoint))
    except (OSError, ValueError) as error:
        raise TrainingInputError(f"{checkpoint}: no adapter of a run with --lora_enable") from error
    name = base or str(config.base_model_name_or_path)
    try:
        base_config, model_class = read_config(name, cache_dir)
    except TrainingInputError as error:
        raise TrainingInputError(f"no base model of {checkpoint}: {error}; name it by --model_name_or_path") from error
    model: Any = load_weights(model_class, name, base_config, dtype="auto", cache_dir=cache_dir)
    dtype = model.dtype
    add_task_rows(model.float())
    merged: Any = PeftModel.from_pretrained(model, str(checkpoint)).merge_and_unload()
    _write_task_rows(merged)
    check_finite(merged.to(dtype).named_parameters(), f"{checkpoint}, merged")
    merged.save_pretrained(output)
    Processor.from_pretrained(checkpoint).save_pretrained(output)
    logger.info("%s merged with %s: %s", checkpoint, name, output)


def _write_task_rows(model: Any) -> None:
    """Put the trained rows into the table and take `task_rows` away."""
    for hook in model.__dict__.pop("_task_row_hooks"):
        hook.remove()
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[list(TASK_TOKEN_IDS.values())] = model.task_rows.weight.to(table.dtype)
    del model.task_rows
