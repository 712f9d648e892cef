"""Loading a student: an ordinary Qwen3-VL checkpoint folder or Hub repository whose tokenizer has the task tokens.

Which one it is, its revision tells: the commit of its Hub repository, or a hash of the files of a local checkpoint.

Whatever is wrong with a checkpoint is a CheckpointError with its name. transformers would fill missing weights with
random numbers, and a base model that was never trained answers, too; both give scores that look like any others.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.checkpoints import HUB_SECONDS, IDENTITY_FILES, base_of, is_adapter, may_be_on_hub, reading
from dyneval.errors import CheckpointError
from dyneval.hashing import files_sha256
from dyneval.tokens import TASK_TOKEN_IDS

if TYPE_CHECKING:
    import torch
    from huggingface_hub import ModelInfo
    from transformers import PretrainedConfig, Qwen3VLForConditionalGeneration

    from dyneval.processing import Processor

logger = logging.getLogger(__name__)
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
"""Files of weights, whose bytes are part of a student's identity."""
_NO_DEVICE = (RuntimeError, AssertionError, AttributeError, ImportError)
"""What torch raises for devices that it was not built for, or that the machine lacks; by kind of device."""


def load_student(
    checkpoint: str | Path,
    subfolder: str | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    commit: str | None = None,
) -> tuple[Qwen3VLForConditionalGeneration, Processor]:
    """Load model and processor for scoring.

    Args:
        checkpoint: folder, or Hub repository id; or the folder of adapters of Step 4, which name their base model and
            are merged with it in memory.
        subfolder: folder of the student inside it.
        device: torch device; default: the first GPU, else the CPU.
        dtype: name of a torch float type; default: bfloat16 on a GPU, float32 on the CPU.
        min_pixels: smallest image area; default: the checkpoint's.
        max_pixels: largest image area; default: the checkpoint's.
        commit: of the Hub repository; default: its newest.

    Returns:
        The model on its device, and the processor with its pixel limits.

    Raises:
        CheckpointError: there is no checkpoint, it is not Qwen3-VL, it lacks the task tokens or has others, its weights
            are not all there, not finite or not of this model, or this machine has no such device.
    """
    import torch
    from transformers import Qwen3VLForConditionalGeneration
    from transformers.utils.import_utils import is_flash_attn_2_available

    from dyneval.checkpoints.adapters import load_merged
    from dyneval.checkpoints.weights import load_weights

    name = checkpoint_name(checkpoint, subfolder)
    target = _device(device)
    kind = getattr(torch, dtype or ("float32" if target.type == "cpu" else "bfloat16"), None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise CheckpointError(f"dtype {dtype!r} is unknown, expected bfloat16, float16 or float32")
    source, place = _weights_place(checkpoint, subfolder, commit)
    config = _checked_config(checkpoint, subfolder, source, place)
    processor = _processor(checkpoint, subfolder, min_pixels, max_pixels, commit)
    # Flash-attention 2 reads images of unequal size in one go, so the vision tower takes it where it can run. The text
    # side keeps SDPA: rows of unequal lengths need a mask, which flash-attention 2 does not take.
    flash = target.type == "cuda" and kind != torch.float32 and is_flash_attn_2_available()
    attention = {"text_config": "sdpa", "vision_config": "flash_attention_2" if flash else "sdpa"}
    options: dict[str, Any] = {"dtype": kind, "attn_implementation": attention}
    folder = Path(checkpoint, subfolder or "")
    if is_adapter(folder):
        model = load_merged(Qwen3VLForConditionalGeneration, folder, source, config, **options)
    else:
        model = load_weights(Qwen3VLForConditionalGeneration, source, config, keep_quantised=True, **place, **options)
    model.to(target)
    logger.info("%s: %.0f M parameters, %s on %s", name, model.num_parameters() / 1e6, kind, target)
    return model, processor


def load_processor(
    checkpoint: str | Path,
    subfolder: str | None,
    min_pixels: int | None,
    max_pixels: int | None,
    commit: str | None = None,
) -> Processor:
    """Load what scoring needs beside the weights, for engines that have those themselves.

    Args:
        checkpoint: folder, or Hub repository id.
        subfolder: folder of the student inside it.
        min_pixels: smallest image area; None: the checkpoint's.
        max_pixels: largest image area; None: the checkpoint's.
        commit: of the Hub repository; None: its newest.

    Raises:
        CheckpointError: there is no checkpoint, it is not Qwen3-VL, or it lacks the task tokens or has others.
    """
    source, place = _weights_place(checkpoint, subfolder, commit)
    _checked_config(checkpoint, subfolder, source, place)
    return _processor(checkpoint, subfolder, min_pixels, max_pixels, commit)


def _processor(
    checkpoint: str | Path, subfolder: str | None, min_pixels: int | None, max_pixels: int | None, commit: str | None
) -> Processor:
    """Load the processor. Raises CheckpointError where its tokenizer lacks the task tokens."""
    from dyneval.processing import Processor

    processor = Processor.from_pretrained(checkpoint, subfolder, min_pixels, max_pixels, commit)
    if processor.added_task_tokens:
        name = checkpoint_name(checkpoint, subfolder)
        raise CheckpointError(
            f"{name}: the tokenizer lacks the task tokens {', '.join(TASK_TOKEN_IDS)}, so this is no trained "
            "DynEval student; train it first, by Step 4 (dyneval train)"
        )
    return processor


def checkpoint_name(checkpoint: str | Path, subfolder: str | None) -> str:
    """Return the name of a student as it stands in score files."""
    return f"{checkpoint}/{subfolder}" if subfolder else str(checkpoint)


def hub_commit(checkpoint: str | Path, subfolder: str | None, revision: str | None = None) -> str | None:
    """Return the commit that a student is to be loaded from.

    Everything of the student is then loaded from this one commit. With a branch in its place, an update in the meantime
    would mix the tokenizer of one commit with the weights of another.

    Args:
        checkpoint: folder, or Hub repository id.
        subfolder: folder of the student inside it.
        revision: commit, tag or branch; None: the newest commit.

    Returns:
        The commit that the Hub has now, or the cache where the Hub cannot be asked; None for a folder.

    Raises:
        CheckpointError: there is no such folder, or no such repository on the Hub and none in the cache.
    """
    folder = Path(checkpoint, subfolder or "")
    if folder.is_dir() or not may_be_on_hub(str(checkpoint)):
        if not is_adapter(folder):
            _check_folder(str(checkpoint), folder, checkpoint_name(checkpoint, subfolder))
        return None
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        # Asked here and not by what loads files: that tries again for half a minute where there is no network.
        info = HfApi().model_info(str(checkpoint), revision=revision, timeout=HUB_SECONDS, files_metadata=True)
    except Exception as error:  # also what the HTTP library raises, which is another one by release
        cached = try_to_load_from_cache(
            str(checkpoint), "/".join(filter(None, (subfolder, "config.json"))), revision=revision
        )
        if not isinstance(cached, str):
            name = checkpoint_name(checkpoint, subfolder)
            # What is no answer of the Hub is a missing network, and says nothing of the repository.
            why = "no such repository on" if isinstance(error, HfHubHTTPError) else "there is no way to"
            raise CheckpointError(
                f"{name}: no such checkpoint folder, not in the Hub's cache, and {why} the Hub ({_first_line(error)})"
            ) from error
    else:
        _tell_download(info, checkpoint_name(checkpoint, subfolder), subfolder)
        return info.sha
    # <cache>/models--OWNER--NAME/snapshots/COMMIT/SUBFOLDER/config.json
    return Path(cached).parents[len(Path(subfolder or "").parts)].name


def _tell_download(info: ModelInfo, name: str, subfolder: str | None) -> None:
    """Log the size and the licence of a student that is not in the cache yet."""
    from huggingface_hub import try_to_load_from_cache

    inside = f"{subfolder}/" if subfolder else ""
    if isinstance(try_to_load_from_cache(info.id, f"{inside}config.json", revision=info.sha), str):
        return
    size = sum(one.size or 0 for one in info.siblings or () if one.rfilename.startswith(inside))
    licence = next((tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")), "not stated")
    logger.info("%s: to be fetched from the Hub once, %.1f GB; licence: %s", name, size / 1e9, licence)


def student_revision(checkpoint: str | Path, subfolder: str | None, commit: str | None = None) -> str | None:
    """Return the identity of a student, wherever its folder is and whatever it is called.

    All bytes of a local checkpoint are read (a fine-tuning of some rows of the embedding would escape samples), one
    thread a file: a second or two for each GB, about what loading it takes.

    Args:
        checkpoint: folder, or Hub repository id.
        subfolder: folder of the student inside it.
        commit: of the repository that it was loaded from.

    Returns:
        "sha256:..." of a local checkpoint, "hub:COMMIT" or "hub:COMMIT/SUBFOLDER" of a repository; None where the Hub
        told no commit.
    """
    folder = Path(checkpoint, subfolder or "")
    if folder.is_dir():
        files = {path for pattern in (*_WEIGHTS, *IDENTITY_FILES) for path in folder.glob(pattern)}
        return f"sha256:{files_sha256(files)}"
    return "/".join(filter(None, (f"hub:{commit}", subfolder))) if commit else None


def _weights_place(checkpoint: str | Path, subfolder: str | None, commit: str | None) -> tuple[str, dict[str, str]]:
    """Return where configuration and weights are, and the arguments of transformers that say where inside of it.

    Adapters have neither: theirs are those of their base model. Raises CheckpointError.
    """
    folder = Path(checkpoint, subfolder or "")
    if is_adapter(folder):
        return base_of(folder), {"subfolder": ""}
    return str(checkpoint), {"subfolder": subfolder or ""} | ({"revision": commit} if commit else {})


def _check_folder(checkpoint: str, folder: Path, name: str) -> None:
    """Raise CheckpointError where that can be told of a folder before transformers is imported, which takes seconds."""
    if not folder.is_dir() and not may_be_on_hub(checkpoint):
        raise CheckpointError(f"{name}: no such checkpoint folder; Step 4 (dyneval train) makes one")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise CheckpointError(f"{name}: the folder holds no config.json, so it is no checkpoint")


def _checked_config(
    checkpoint: str | Path, subfolder: str | None, source: str, place: dict[str, str]
) -> PretrainedConfig:
    """Return the configuration at `_weights_place`. Raises CheckpointError where its model cannot score."""
    folder = Path(source, place["subfolder"])
    name = checkpoint_name(checkpoint, subfolder)
    if source != str(checkpoint):
        name = f"{name}: its base model {source}"
    _check_folder(source, folder, name)
    from transformers import AutoConfig

    with reading(f"{name}: config.json cannot be used" if folder.is_dir() else f"{name}: no such Hub repository"):
        config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, **place)
    if config.model_type != "qwen3_vl":
        raise CheckpointError(f"{name}: is a {config.model_type} model, expected a Qwen3-VL one (qwen3_vl)")
    # Qwen3-VL has 151,936 rows, more than its tokenizer has tokens, so the task tokens need no new ones.
    rows, needed = config.get_text_config().vocab_size, max(TASK_TOKEN_IDS.values()) + 1
    if rows < needed:
        raise CheckpointError(f"{name}: its embedding has {rows} rows, but the task tokens need {needed}")
    return config


def _device(name: str | None) -> torch.device:
    """Return a device that is there. Raises CheckpointError."""
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)  # only this tells whether the machine has it
    except _NO_DEVICE as error:
        raise CheckpointError(
            f"device {name!r} is unknown or not on this machine; name none to take what is ({_first_line(error)})"
        ) from error
    return device


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
