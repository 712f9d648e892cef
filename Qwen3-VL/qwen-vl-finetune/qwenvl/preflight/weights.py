"""Checks the weights, and which of them would be trained, by the functions that the training calls."""

from __future__ import annotations

import torch

from dyneval.errors import UserError
from qwenvl.preflight import CheckResult
from qwenvl.train.argument import DataArguments, ModelArguments
from qwenvl.train.lora import add_adapters
from qwenvl.train.modeling import freeze, load_model, set_trainable, trainable_names


def check_weights(model_arguments: ModelArguments, data_arguments: DataArguments) -> CheckResult:
    """Load the model as training does, into the memory of this machine, 2 bytes a parameter.

    A model of the Hub is downloaded for it. Reading names and shapes alone would not find tensors that are cut off or
    hold NaN, on which training ends later.
    """
    flat = data_arguments.data_flatten or data_arguments.data_packing
    name = model_arguments.model_name_or_path
    try:
        model = load_model(model_arguments, torch.bfloat16, 1, flat=flat)
        count = len(model.state_dict())
        if model_arguments.lora_enable:
            trained: torch.nn.Module = add_adapters(model, model_arguments)
        else:
            trained = model
            set_trainable(model, model_arguments)
        freeze(trained, model_arguments.freeze)
    except UserError as error:
        return CheckResult(name="weights", status="error", message=str(error))
    tied = "is the embedding" if model.config.tie_word_embeddings else "has weights of its own"
    details = {"trained": trainable_names(trained)}
    message = f"{name}: all {count} tensors are there and finite; the output {tied}"
    return CheckResult(name="weights", status="ok", message=message, details=details)
