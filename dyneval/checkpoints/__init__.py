"""The files of a checkpoint folder, in forms that every reader of Qwen3-VL opens.

transformers 5 writes a checkpoint for itself: 4.57, which much published code and many servers run, finds no
`rope_scaling` in its config.json, stops at `extra_special_tokens` as a list, and has no vocabulary for its slow
tokenizer. The published DynEval checkpoints were saved by 4.57. What is written here stands beside what transformers 5
reads, or in a form that both read; `tests/test_checkpoints.py` opens it with several releases. This holds for the dense
models: of a mixture of experts, transformers 5 also names and lays out the experts in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dyneval.errors import CheckpointError, DataFileError, UserError
from dyneval.files.atomic import read_json, write_json

ADAPTER_CONFIG = "adapter_config.json"
IDENTITY_FILES: tuple[str, ...] = (
    ADAPTER_CONFIG,
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "dyneval.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
"""Files beside the weights that change what a student sees or says; a checkpoint has some of them."""
_OF_ONE_LOADING = ("is_local", "local_files_only")
"""How transformers 5 found a tokenizer, which it saves with it."""


def may_be_on_hub(checkpoint: str) -> bool:
    """True for owner/name, unless that is a path whose first part is here: a mistyped folder is not looked up."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) is not None and not Path(checkpoint).parent.is_dir()


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Make a CheckpointError, `what` and why in one line, of what libraries stumble over in the files of a checkpoint.

    transformers, tokenizers and peft look at little of what they read: wrong JSON ends in whatever exception the code
    meets that uses it.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of torch
            raise
        reason = (str(error).strip() or "no reason told").splitlines()[0]
        kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
        raise CheckpointError(f"{what} ({kind}{reason})") from error


def is_adapter(folder: Path) -> bool:
    """True for a folder of adapters without the model that they belong to."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """The model that adapters were trained on: a folder or a Hub id.

    Raises:
        CheckpointError: there are no adapters, or they name none.
    """
    try:
        named = read_json(folder / ADAPTER_CONFIG)["base_model_name_or_path"]
    except (OSError, DataFileError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: no adapter of a run with --lora_enable") from error
    if not named:
        raise CheckpointError(f"{folder / ADAPTER_CONFIG}: names no base model")
    return str(named)


def write_for_every_reader(folder: Path) -> None:
    """Complete a folder that transformers 5 has saved a model and a tokenizer to; a second time changes nothing.

    Args:
        folder: of a checkpoint, or of an adapter, which has no config.json.

    Raises:
        DataFileError: a JSON file in it cannot be read.
    """
    if (folder / "config.json").is_file():
        _complete_config(folder / "config.json")
    if (folder / "tokenizer.json").is_file():
        _complete_tokenizer(folder)


def _complete_config(path: Path) -> None:
    """Put the rotary embedding's settings where 4.57 looks for them, under the names of then."""
    config = read_json(path)
    text = config.get("text_config", {})
    rope: dict[str, Any] | None = text.get("rope_parameters")
    if rope is None:
        return
    text["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    text["rope_theta"] = rope["rope_theta"]
    write_json(path, config)


def _complete_tokenizer(folder: Path) -> None:
    """Write the files of a slow tokenizer, and name the special tokens as both major versions read them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    added = dict(sorted(tokenizer.get_added_tokens_decoder().items()))
    write_json(folder / "added_tokens.json", {token.content: number for number, token in added.items()})
    config = read_json(folder / "tokenizer_config.json")
    for name in _OF_ONE_LOADING:
        config.pop(name, None)
    # As a list, 4.57 stops at it; under the other name, transformers 5 takes the same tokens for the same.
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    config["added_tokens_decoder"] = {
        str(number): {flag: getattr(token, flag) for flag in flags} for number, token in added.items()
    }
    write_json(folder / "tokenizer_config.json", config)
