"""Low-rank adapters (LoRA) of Step 4 and the trained rows of the task tokens: attach them, and merge them in memory.

Step 4 saves adapters without their base model; scoring loads both here and merges them into an ordinary model. The
three task tokens need rows of their own: the embedding is frozen under LoRA, and without trained rows the student would
not know what it is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dyneval.checkpoints import reading
from dyneval.checkpoints.weights import check_finite, load_weights
from dyneval.errors import CheckpointError
from dyneval.tokens import TASK_TOKEN_IDS

ROWS = "task_rows"
"""Name of the module of the rows in the model."""


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


def add_task_rows(model: Any, rows: torch.Tensor) -> None:
    """Give the model its `task_rows`, (3, H); they act on the embedding, and on the output where both are one table."""
    # Hooks, not another embedding class: the model keeps its layout, so its checkpoints keep their names.
    setattr(model, ROWS, TaskRows(rows))
    layers: list[Any] = [model.get_input_embeddings()]
    layers += [model.get_output_embeddings()] if model.config.tie_word_embeddings else []
    model.__dict__["_task_row_hooks"] = [
        # The rows are looked up in each call: peft replaces the module by a copy of its own, which is trained.
        layer.register_forward_hook(lambda module, inputs, output: getattr(model, ROWS)(output, inputs[0]))
        for layer in layers
    ]


def own_rows(model: Any) -> torch.Tensor:
    """The rows of the task tokens in the embedding, (3, H)."""
    rows: torch.Tensor = model.get_input_embeddings().weight[list(TASK_TOKEN_IDS.values())]
    return rows


def load_merged(
    model_class: Any, folder: Path, base: str, config: Any, dtype: torch.dtype | str, **options: Any
) -> Any:
    """Load a base model and merge adapters into it, in float32; the result is an ordinary model.

    Args:
        model_class: class of the model.
        folder: of the adapters.
        base: folder or Hub id of their base model.
        config: configuration of the base model.
        dtype: of the result; "auto" for the base's.
        options: for `from_pretrained` of the base model.

    Raises:
        CheckpointError: peft is not installed, the base cannot be loaded or is another than the adapters were trained
            on, or merged weights are not finite.
    """
    try:
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as error:
        raise CheckpointError(f"{folder}: adapters need peft; run: pip install -e '.[train]'") from error
    model = load_weights(model_class, base, config, dtype="auto", **options)
    kind = model.dtype if dtype == "auto" else dtype
    add_task_rows(model.to(kind), own_rows(model))
    with reading(f"{folder}: these adapters do not fit {base}"):
        adapted = PeftModel.from_pretrained(model, str(folder))
        # The sums are made in float32: bfloat16 would round small changes away. Only the adapted
        # layers are made float32: of the whole model that would take twice its memory more.
        for layer in adapted.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.get_base_layer().float()
        merged: Any = adapted.merge_and_unload()
    for hook in merged.__dict__.pop("_task_row_hooks"):
        hook.remove()
    with torch.no_grad():
        table = merged.get_input_embeddings().weight
        table[list(TASK_TOKEN_IDS.values())] = merged.task_rows.weight.to(table.dtype)
    del merged.task_rows
    check_finite(merged.to(kind).named_parameters(), f"{folder}, merged")
    return merged
