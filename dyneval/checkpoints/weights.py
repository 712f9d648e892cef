"""Load the weights of a Qwen3-VL checkpoint, all of them and as they were meant, or refuse the checkpoint.

transformers gives random values to a weight that it does not find, leaves out one that it has no place for, and
computes with quantised values of an unknown method as if they were the weights. It warns, and goes on: scores would
look right and mean nothing. Training and scoring load through this module, which raises a CheckpointError instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dyneval.checkpoints import reading
from dyneval.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

_HEAD = "lm_head.weight"
_QUANTISED = ("quantization_config", "compression_config")
# Of a hostile or broken config.json; the largest Qwen3-VL has 94.
_MOST_LAYERS = 1000
# Ends of names of tensors that old checkpoints hold although they follow from the configuration.
_COMPUTED = ("inv_freq",)


def load_weights(
    model_class: type[PreTrainedModel],
    source: str,
    config: PreTrainedConfig,
    *,
    keep_quantised: bool = False,
    **options: Any,
) -> Any:
    """Load a model, every weight of which is in the checkpoint and finite, and which holds every weight in there.

    Args:
        model_class: class of the model.
        source: checkpoint folder or Hub repository.
        config: its configuration, which is changed: `tie_word_embeddings` says on both levels what holds.
        keep_quantised: leave weights quantised where transformers can compute with them, for scoring; otherwise they
            are restored to the `dtype` of the options, and no trace of the quantisation stays in the configuration.
        options: for `from_pretrained`; a `subfolder` of the source among them.

    Raises:
        CheckpointError: the weights cannot be read; some are missing, have no place in the model, have another shape,
            or are NaN or infinite; or they are quantised in a way that cannot be undone here. The message names them.
    """
    name = "/".join(filter(None, (source, options.get("subfolder"))))
    # transformers builds all layers before it looks for a weight: of a config.json with a million that takes hours.
    layers = config.get_text_config().num_hidden_layers, getattr(getattr(config, "vision_config", None), "depth", 0)
    if max(layers) > _MOST_LAYERS:
        raise CheckpointError(f"{name}: config.json tells of {max(layers)} layers, at most {_MOST_LAYERS} are built")
    _prepare_quantised(name, config, keep_quantised)
    model, report = _load(model_class, source, config, name, options)
    text = config.get_text_config()
    if report["missing_keys"] == {_HEAD} and text.tie_word_embeddings and not config.tie_word_embeddings:
        # The text part alone says that the output is the embedding; transformers reads the top level only.
        config.tie_word_embeddings = True
        model, report = _load(model_class, source, config, name, options)
    _check_complete(name, report)
    # Where a checkpoint says that output and embedding are one table but holds two different ones, transformers keeps
    # both and does not correct the configuration; code that trusts it then saves one of them.
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = tied
    if not tied:
        model.all_tied_weights_keys = {}
    check_finite(model.named_parameters(), name)
    return model


def _load(
    model_class: type[PreTrainedModel], source: str, config: PreTrainedConfig, name: str, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    with reading(f"{name}: the weights cannot be loaded"):
        loaded: Any = model_class.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            output_loading_info=True,
            # Another shape would raise here at once; `_check_complete` names it with all other faults.
            ignore_mismatched_sizes=True,
            **options,
        )
    model, report = loaded
    return model, report


def _check_complete(name: str, report: dict[str, Any]) -> None:
    """Refuse missing, surplus and misshapen weights, which transformers only warns about."""
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith(_COMPUTED)]
    mismatched = [
        f"{key} ({'x'.join(map(str, found))} instead of {'x'.join(map(str, wanted))})"
        for key, found, wanted in sorted(report["mismatched_keys"], key=lambda entry: entry[0])
    ]
    wrong = {
        "are missing": report["missing_keys"],
        "have another shape": mismatched,
        "have no place in the model": unexpected,
    }
    told = [f"{len(keys)} weights {what}: {_some(keys)}" for what, keys in wrong.items() if keys]
    if told:
        raise CheckpointError(
            f"{name}: {'; '.join(told)}. config.json and weights do not belong together, or were saved under other "
            "names (by a wrapper, or quantised): take the checkpoint as it was published"
        )


def _some(keys: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are: a wrong checkpoint has hundreds."""
    names = sorted(keys)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def not_finite(weights: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity.

    Under ZeRO-3 a weight is empty on every rank and its part stands in `ds_tensor`; a rank looks at that part.
    """
    import torch

    bad = []
    for key, weight in weights:
        tensor = getattr(weight, "ds_tensor", weight).detach()
        # 8-bit floats are quantised values, which stay so in scoring alone.
        if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() == 1:
            continue
        # So are tensors of a quantisation's own kind, which know few operations.
        if type(tensor) is not torch.Tensor:
            continue
        # Both are NaN where one value is. `isfinite(tensor)` would make a table of truth values as large as the weight.
        low, high = torch.aminmax(tensor)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            bad.append(key)
    return bad


def check_finite(weights: Iterable[tuple[str, torch.Tensor]], name: str) -> None:
    """Refuse NaN and infinity.

    Args:
        weights: tensors by name.
        name: what they belong to, for the message.

    Raises:
        CheckpointError: the message names the first of them and their number.
    """
    if bad := not_finite(weights):
        raise CheckpointError(
            f"{name}: {len(bad)} weights hold NaN or infinity: {_some(bad)}; the training diverged or the files are "
            "damaged: take an earlier checkpoint"
        )


def _prepare_quantised(name: str, config: PreTrainedConfig, keep: bool) -> None:
    """Have quantised weights restored while they are loaded, or refuse them.

    Args:
        name: of the checkpoint, for the message.
        config: its configuration; `quantization_config` is told to restore the weights.
        keep: leave them quantised where transformers can compute with them.

    Raises:
        CheckpointError: their method cannot be undone here, or is unknown to transformers, which would then ignore it.
    """
    # The settings stand at the top or in a part of the configuration, under two names; transformers reads the top only.
    parts = [config, config.get_text_config(), getattr(config, "vision_config", None)]
    values = (getattr(part, field, None) for part in parts for field in _QUANTISED)
    found = next((value for value in values if value is not None), None)
    if found is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    settings = found if isinstance(found, dict) else found.to_dict()
    method = str(getattr(settings.get("quant_method"), "value", settings.get("quant_method")))
    kind = AUTO_QUANTIZATION_CONFIG_MAPPING.get(method)
    bits = settings.get("load_in_4bit") or settings.get("load_in_8bit")
    at_top = getattr(config, "quantization_config", None) is not None
    if keep and at_top and (kind or bits):
        return
    if not keep and at_top and kind and "dequantize" in inspect.signature(kind).parameters:
        config.quantization_config = settings | {"dequantize": True}
        return
    does = "is unknown to transformers" if keep else "cannot be undone here"
    raise CheckpointError(
        f"{name}: its weights are quantised ({method}), which {does}; take the checkpoint that it was made from, in "
        "bfloat16 or float32"
    )
