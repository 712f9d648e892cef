"""Loading a student: an ordinary Qwen3-VL checkpoint folder or Hub repository whose tokenizer has the task tokens."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.tokens import TASK_TOKEN_IDS

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, Qwen3VLForConditionalGeneration

    from dyneval.processing import Processor

logger = logging.getLogger(__name__)
_TOKENIZER_FILES = ("added_tokens.json", "tokenizer.json", "tokenizer_config.json")


class CheckpointError(ValueError):
    """A checkpoint cannot be used as a student; the message names it and says what to do."""


def load_student(
    checkpoint: str | Path,
    subfolder: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
) -> tuple[Qwen3VLForConditionalGeneration, Processor]:
    """Load model and processor for scoring.

    Args:
        checkpoint: folder, or Hub repository id.
        subfolder: folder of the student inside it.
        device: torch device; default: the first GPU, else the CPU.
        dtype: name of a torch float type; default: bfloat16 on a GPU, float32 on the CPU.
        min_pixels: smallest image area; default: the checkpoint's.
        max_pixels: largest image area; default: the checkpoint's.

    Raises:
        CheckpointError: there is none, it is not Qwen3-VL, it lacks the task tokens, or its weights are incomplete.
    """
    name = checkpoint_name(checkpoint, subfolder)
    target = _device(device)
    kind = _dtype(dtype, target)
    processor, _ = load_processor(checkpoint, subfolder, min_pixels, max_pixels)
    attention = _attention(target, kind)
    model = _model(checkpoint, subfolder or "", name, dtype=kind, attn_implementation=attention)
    model.to(target)  # type: ignore[arg-type]  # the stub takes self for the device
    logger.info("%s: %.0f M parameters, %s on %s", name, model.num_parameters() / 1e6, kind, target)
    return model, processor


def load_processor(
    checkpoint: str | Path, subfolder: str | None, min_pixels: int | None, max_pixels: int | None
) -> tuple[Processor, PretrainedConfig]:
    """Load what scoring needs beside the weights, for engines that have those themselves.

    Raises:
        CheckpointError: there is none, it is not Qwen3-VL, or it lacks the task tokens.
    """
    from dyneval.processing import Processor

    config = _check(checkpoint, subfolder or "", checkpoint_name(checkpoint, subfolder))
    try:
        return Processor.from_pretrained(checkpoint, subfolder, min_pixels, max_pixels), config
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def checkpoint_name(checkpoint: str | Path, subfolder: str | None) -> str:
    """Name of a student as it stands in score files."""
    return f"{checkpoint}/{subfolder}" if subfolder else str(checkpoint)


def _check(checkpoint: str | Path, subfolder: str, name: str) -> PretrainedConfig:
    from transformers import AutoConfig

    folder = Path(checkpoint) / subfolder
    if not folder.is_dir() and not _may_be_on_hub(str(checkpoint)):
        raise CheckpointError(f"{name}: no such checkpoint folder")
    try:
        config = AutoConfig.from_pretrained(str(checkpoint), subfolder=subfolder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise CheckpointError(f"{name}: the folder holds no config.json, so it is no checkpoint") from error
        raise CheckpointError(f"{name}: no such checkpoint folder or Hub repository ({_first_line(error)})") from error
    if config.model_type != "qwen3_vl":
        raise CheckpointError(f"{name}: is a {config.model_type} model, expected a Qwen3-VL one (qwen3_vl)")
    if not _has_task_tokens(str(checkpoint), subfolder):
        raise CheckpointError(
            f"{name}: the tokenizer lacks the task tokens {', '.join(TASK_TOKEN_IDS)}, so this is no trained "
            "DynEval student; train it with Step 4 first"
        )
    return config


def _may_be_on_hub(checkpoint: str) -> bool:
    """True for owner/name, unless that is a path whose first part is here: a mistyped folder is not looked up."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) is not None and not Path(checkpoint).parent.is_dir()


def _has_task_tokens(checkpoint: str, subfolder: str) -> bool:
    from transformers.utils.hub import cached_file

    text = ""
    for name in _TOKENIZER_FILES:
        found = cached_file(checkpoint, name, subfolder=subfolder, _raise_exceptions_for_missing_entries=False)
        text += Path(found).read_text("utf-8") if found else ""
    return all(token in text for token in TASK_TOKEN_IDS)


def _model(checkpoint: str | Path, subfolder: str, name: str, **options: Any) -> Qwen3VLForConditionalGeneration:
    from safetensors import SafetensorError
    from transformers import Qwen3VLForConditionalGeneration

    try:
        loaded: Any = Qwen3VLForConditionalGeneration.from_pretrained(
            str(checkpoint), subfolder=subfolder, trust_remote_code=False, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{name}: the weights cannot be loaded ({_first_line(error)})") from error
    model, report = loaded
    # transformers fills missing weights with random numbers and only warns.
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(f"{name}: {len(missing)} weights are missing, {missing[0]} the first of them")
    return model


def _device(name: str | None) -> torch.device:
    import torch

    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise CheckpointError(f"device {name!r} is unknown ({_first_line(error)})") from error


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    import torch

    kind = getattr(torch, name or ("float32" if device.type == "cpu" else "bfloat16"), None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise CheckpointError(f"dtype {name!r} is unknown, expected bfloat16, float16 or float32")
    return kind


def _attention(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """SDPA; flash-attention 2 in the vision tower where it can run: there it reads images of unequal size in one go.

    The text side keeps SDPA, since rows of unequal lengths need a mask that flash-attention 2 does not take.
    """
    import torch
    from transformers.utils.import_utils import is_flash_attn_2_available

    flash = device.type == "cuda" and dtype != torch.float32 and is_flash_attn_2_available()
    return {"text_config": "sdpa", "vision_config": "flash_attention_2" if flash else "sdpa"}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
