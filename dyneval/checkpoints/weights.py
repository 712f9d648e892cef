"""Loads the weights of a Qwen3-VL checkpoint, all of them and as they were meant, or refuses the checkpoint.

transformers gives a weight that it does not find random values, leaves out one that it has no place for, and computes
with quantised values whose method it does not know as if they were the weights; it warns, and goes on. Training and
scoring load through this module, which does not.
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
_MOST_LAYERS = 1000
"""The largest Qwen3-VL has 94."""
_COMPUTED = ("inv_freq",)
"""Ends of the names of tensors that old checkpoints hold although they follow from the configuration."""


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
    _check_depth(name, config)
    _prepare_quantised(name, config, keep_quantised)
    model, report = _load(model_class, source, config, name, options)
    text = config.get_text_config()
    if report["missing_keys"] == {_HEAD} and text.tie_word_embeddings and not config.tie_word_embeddings:
        # The text part alone says that the output is the embedding; transformers reads the top level only.
        config.tie_word_embeddings = True
        model, report = _load(model_class, source, config, name, options)
    _check_complete(name, report)
    _settle_tying(model)
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
            ignore_mismatched_sizes=True,  # reported with the others instead
            **options,
        )
    model, report = loaded
    return model, report


def _check_depth(name: str, config: PreTrainedConfig) -> None:
    """Refuse what would be built layer by layer for hours before a weight is looked for."""
    layers = config.get_text_config().num_hidden_layers, getattr(getattr(config, "vision_config", None), "depth", 0)
    if max(layers) > _MOST_LAYERS:
        raise CheckpointError(f"{name}: config.json tells of {max(layers)} layers, at most {_MOST_LAYERS} are built")


def _check_complete(name: str, report: dict[str, Any]) -> None:
    """Refuse what transformers only warns about."""
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith(_COMPUTED)]
    mismatched = [f"{key} ({_shape(found)} instead of {_shape(wanted)})" for key, found, wanted in _mismatched(report)]
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


def _mismatched(report: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
    return sorted(report["mismatched_keys"], key=lambda entry: entry[0])


def _shape(size: Iterable[int]) -> str:
    return "x".join(str(number) for number in size)


def _some(keys: Iterable[str], most: int = 3) -> str:
    names = sorted(keys)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _settle_tying(model: Any) -> None:
    """Say in the configuration whether the output is the embedding, as it turned out.

    Where a checkpoint says so but has an output with other values, transformers keeps both tables and leaves the word;
    who trusts it then saves one of them.
    """
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = tied
    if not tied:
        model.all_tied_weights_keys = {}


def not_finite(weights: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Names of the tensors that hold NaN or infinity. Of a weight that ZeRO-3 shares out, a rank looks at its part."""
    return [key for key, tensor in weights if not _finite(getattr(tensor, "ds_tensor", tensor))]


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


def _finite(tensor: torch.Tensor) -> bool:
    import torch

    if tensor.is_meta or not tensor.numel() or not tensor.is_floating_point() or tensor.element_size() == 1:
        return True  # 8-bit floats are quantised values, which stay so in scoring alone
    if type(tensor.detach()) is not torch.Tensor:
        return True  # so are tensors of a quantisation's own kind, which know few operations
    # Both are NaN where one value is; no table of truth values as large as the weight is made.
    low, high = torch.aminmax(tensor.detach())
    return bool(torch.isfinite(low) and torch.isfinite(high))


def _prepare_quantised(name: str, config: PreTrainedConfig, keep: bool) -> None:
    """Have quantised weights restored while they are loaded, or refuse them.

    Raises:
        CheckpointError: their method cannot be undone here, or is unknown to transformers, which would then ignore it.
    """
    found = _quantisation(config)
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


def _quantisation(config: PreTrainedConfig) -> Any:
    """Settings of a quantisation, wherever in the configuration they stand; None without."""
    parts = [config, config.get_text_config(), getattr(config, "vision_config", None)]
    values = (getattr(part, field, None) for part in parts for field in _QUANTISED)
    return next((value for value in values if value is not None), None)
