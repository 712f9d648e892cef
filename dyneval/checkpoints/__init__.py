"""The files of a checkpoint folder: which ones decide about a student, and how every reader of Qwen3-VL can open them.

transformers 5 saves a checkpoint that transformers 4.57 cannot open, and much published code and many servers run 4.57:
it finds no `rope_scaling` in config.json, stops at `extra_special_tokens` as a list, and has no vocabulary for its slow
tokenizer. `write_for_every_reader` adds what 4.57 needs, in forms that both read. The published DynEval checkpoints
were saved by 4.57. `tests/test_checkpoints.py` opens the result with several releases. Limit: dense models only, since
transformers 5 also renames the experts of a mixture of experts.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dyneval.errors import CheckpointError, DataFileError, UserError
from dyneval.files.atomic import read_json, write_json

logger = logging.getLogger(__name__)

HUB_SECONDS = 10.0
"""How long the Hub may take to answer a question about a model."""
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
# transformers 5 saves with a tokenizer how it was found. In a folder that moves to the Hub this is no longer true.
_OF_ONE_LOADING = ("is_local", "local_files_only")


def may_be_on_hub(checkpoint: str) -> bool:
    """True for owner/name, unless that is a path whose first part is here.

    Otherwise the Hub would be asked about a folder whose name was mistyped, and the error would speak of the Hub.
    """
    return re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) is not None and not Path(checkpoint).parent.is_dir()


def go_offline_without_hub(model: str) -> None:
    """Ask the Hub once for a model that is in no folder; where no answer comes, go on with its cache alone.

    That holds for the whole process and for those that it starts. Otherwise each file would be asked for six times, in
    half a minute, and the error would come in the end all the same.
    """
    if Path(model).is_dir() or not may_be_on_hub(model):
        return
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().model_info(model, timeout=HUB_SECONDS)
    except Exception as error:  # also what the HTTP library raises, which is another one by release
        # That there is no such model, or that it is not for everybody, is an answer; whoever loads it tells it better.
        if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code < 500:
            return
        logger.warning("the Hub does not answer (%s); only its cache is looked at", str(error).partition("\n")[0])
        # The variable is for other processes; this one has read it when it imported the library.
        os.environ["HF_HUB_OFFLINE"] = "1"
        constants.HF_HUB_OFFLINE = True


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn any exception of a library that reads a checkpoint into a CheckpointError: `what`, and why, in one line.

    transformers, tokenizers and peft check little of what they read: wrong JSON ends in whatever exception the code
    that uses it meets, such as a KeyError or an AttributeError. No list of types would hold for long.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Out of memory is no fault of the checkpoint. torch's class is known by name: torch may not be installed.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            raise
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
        raise CheckpointError(f"{what} ({kind}{reason})") from error


def is_adapter(folder: Path) -> bool:
    """True for a folder of adapters without the model that they belong to.

    A folder that holds both is an ordinary checkpoint.
    """
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
        config = read_json(folder / "config.json")
        text = config.get("text_config", {})
        rope: dict[str, Any] | None = text.get("rope_parameters")
        if rope is not None:
            # Without these two, 4.57 stops at "'NoneType' object has no attribute 'get'" while it builds the model.
            text["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
            text["rope_theta"] = rope["rope_theta"]
            write_json(folder / "config.json", config)
    if not (folder / "tokenizer.json").is_file():
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # vocab.json and merges.txt: the slow tokenizer of 4.57 reads nothing else, and raises a TypeError without them.
    tokenizer.model.save(str(folder))
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
