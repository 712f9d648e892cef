"""Sets up the model to train: its class, its attention, its frozen parts, and the rows of the task tokens.

Preflight calls the same functions. A parameter that is frozen by mistake makes no error: the loss only falls more
slowly, so the trained set is printed at the start of every run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils.import_utils import is_flash_attn_2_available

from dyneval.checkpoints import go_offline_without_hub, may_be_on_hub
from dyneval.checkpoints.weights import load_weights
from dyneval.processing import start_task_rows
from dyneval.tokens import TASK_TOKEN_IDS
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.attention import PACKED_SDPA
from qwenvl.train.loss import with_target_loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FAMILIES = ("qwen3_vl", "qwen3_vl_moe")


def read_config(name: str, cache_dir: str | None = None) -> tuple[PreTrainedConfig, type[PreTrainedModel]]:
    """Return the configuration of a dense or mixture-of-experts Qwen3-VL, and the class that follows from it alone.

    Raises:
        TrainingInputError: no model there, or one of another family.
    """
    if not Path(name).is_dir() and not may_be_on_hub(name):
        raise TrainingInputError(f"{name}: no such model folder")
    go_offline_without_hub(name)
    # No remote code: a checkpoint is data from outside, and must not run a program of its own.
    try:
        config = AutoConfig.from_pretrained(name, cache_dir=cache_dir, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TrainingInputError(f"{name}: no model configuration ({str(error).splitlines()[0]})") from error
    if config.model_type not in FAMILIES:
        raise TrainingInputError(f"{name}: is a {config.model_type} model; DynEval fine-tunes {' and '.join(FAMILIES)}")
    model_class: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    return config, model_class


def load_model(
    arguments: ModelArguments, dtype: torch.dtype, chunks: int, *, flat: bool = True, cache_dir: str | None = None
) -> PreTrainedModel:
    """Load a model for training.

    Args:
        arguments: the model and its attention.
        dtype: of the weights.
        chunks: pieces of the loss.
        flat: batches will be flat sequences, without padding.
        cache_dir: folder of downloaded models.

    Raises:
        TrainingInputError: see `read_config`.
        CheckpointError: its weights cannot be trained on, see `load_weights`.
    """
    name = arguments.model_name_or_path
    config, plain_class = read_config(name, cache_dir)
    model_class = with_target_loss(plain_class, chunks)
    attention = arguments.attn_implementation
    if attention == "auto":
        # On two CPU cores and at DynEvalInstruct's lengths, SDPA over a whole flat batch of four takes several times as
        # long as sample by sample (benchmarks/training.py).
        has_flash = torch.cuda.is_available() and is_flash_attn_2_available()
        attention = "flash_attention_2" if has_flash else PACKED_SDPA if flat else "sdpa"
    # The vision tower splits its sequence by image already, and takes no `sample_lengths`.
    parts = {"text_config": attention, "vision_config": "sdpa" if attention == PACKED_SDPA else attention}
    logger.info("%s: %s, %s, attention %s", name, model_class.__name__, dtype, attention)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": parts, "cache_dir": cache_dir}
    model: PreTrainedModel = load_weights(model_class, name, config, **options)
    if is_deepspeed_zero3_enabled():
        # Under ZeRO-3 transformers notes every renaming of old checkpoints that it knows, not those that it applied.
        # Saving would undo them all, and write names (model.language_model.model....) that no other reader knows.
        model.__dict__.pop("_weight_conversions", None)
    return model


def set_trainable(model: PreTrainedModel, arguments: ModelArguments) -> None:
    """Freeze and unfreeze every parameter by the part it belongs to.

    Raises:
        TrainingInputError: nothing is left to train.
    """
    trained = trained_parts(arguments)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[part_of(name)])
    if not any(trained.values()):
        raise TrainingInputError("nothing to train: tune_mm_vision, tune_mm_mlp and tune_mm_llm are all False")


def freeze(model: torch.nn.Module, patterns: str | None) -> None:
    """Freeze parameters by their names, as the trainable set is printed: `*.layers.0.*,*.embed_tokens.weight`.

    Raises:
        TrainingInputError: a pattern matches nothing that is trained, or nothing is left to train.
    """
    for pattern in filter(None, (patterns or "").split(",")):
        names = {plain_name(name): one for name, one in own_parameters(model) if one.requires_grad}
        matched = [one for name, one in names.items() if fnmatchcase(name, pattern)]
        if not matched:
            raise TrainingInputError(f"--freeze {pattern}: matches no parameter that is trained, such as {min(names)}")
        for parameter in matched:
            parameter.requires_grad_(False)
    if not any(one.requires_grad for one in model.parameters()):
        raise TrainingInputError(f"--freeze {patterns}: nothing is left to train")


def plain_name(name: str) -> str:
    """Return a parameter's name without what peft puts around it."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.default", "").replace(".default", "")


def trainable_names(model: torch.nn.Module) -> list[str]:
    """Return the names of what is trained; names that differ only in a layer's number become one, `layers.0-27.`."""
    numbers: dict[str, list[int]] = {}
    for name, parameter in own_parameters(model):
        if parameter.requires_grad:
            whole = plain_name(name)
            match = re.search(r"\.(\d+)\.", whole)
            shape = whole if match is None else f"{whole[: match.start(1)]}%s{whole[match.end(1) :]}"
            numbers.setdefault(shape, []).extend([int(match[1])] if match else [])
    names = []
    for shape, found in numbers.items():
        pieces: list[list[int]] = []
        for number in sorted({*found}):
            if pieces and number == pieces[-1][-1] + 1:
                pieces[-1].append(number)
            else:
                pieces.append([number])
        ranges = ",".join(str(one[0]) if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in pieces)
        names.append(shape % ranges if found else shape)
    return names


def trained_parts(arguments: ModelArguments) -> dict[str, bool]:
    """Return whether each part is trained, by the tune flags."""
    return {
        "vision": arguments.tune_mm_vision,
        "merger": arguments.tune_mm_mlp,
        "language": arguments.tune_mm_llm,
    }


def part_of(name: str) -> str:
    """Return `vision`, `merger` (with the deepstack mergers) or `language`, from a parameter's name."""
    pieces = name.split(".")
    if "visual" not in pieces:
        return "language"
    inner = pieces[pieces.index("visual") + 1]
    return "merger" if inner in ("merger", "deepstack_merger_list") else "vision"


def own_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield parameters by name, without the originals that peft keeps beside modules that it trains whole."""
    return ((name, one) for name, one in model.named_parameters() if ".original_module." not in name)


def trainable_report(model: torch.nn.Module) -> str:
    """Return a line for each part: trained and all parameters."""
    counts: dict[str, list[int]] = {}
    for name, parameter in own_parameters(model):
        # ZeRO-3 leaves an empty tensor behind and the true size beside it.
        size = getattr(parameter, "ds_numel", parameter.numel())
        part = counts.setdefault(part_of(name), [0, 0])
        part[0] += size if parameter.requires_grad else 0
        part[1] += size
    return "\n".join(f"  {part:<9}{trained:>15,} of {total:>15,} trained" for part, (trained, total) in counts.items())


def initialise_task_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Start the rows of the task tokens from the mean of related words.

    Raises:
        TrainingInputError: the embedding has no rows for them.
    """
    # They are unused rows of the embedding, which have nearly the same value in a published checkpoint, so the tokens
    # would start out alike. The embedding keeps its 151,936 rows; resizing it to the tokenizer would shrink it. Where
    # the head is tied to it, both are one tensor, which must not be changed twice.
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    tables = {id(layer.weight): layer.weight for layer in layers}
    for weight in tables.values():
        with gathered(weight, modifier_rank=0), torch.no_grad():
            if not weight.numel():  # ZeRO-3 shows the whole table to one rank, which hands it to the others
                continue
            if weight.shape[0] <= max(TASK_TOKEN_IDS.values()):
                raise TrainingInputError(
                    f"the embedding has {weight.shape[0]} rows; the task tokens need "
                    f"{max(TASK_TOKEN_IDS.values()) + 1}, as every Qwen3-VL model has"
                )
            start_task_rows(weight, tokenizer)


def gathered(weight: torch.Tensor, modifier_rank: int | None = None) -> AbstractContextManager[Any]:
    """Gather a weight that ZeRO-3 has divided, to read it or, on `modifier_rank`, to change it for all ranks."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([weight], modifier_rank=modifier_rank)
