"""A tiny Qwen3-VL with random weights, saved as an ordinary checkpoint folder.

    python -m dyneval.demo.tiny_model --output DIR [--seed 0] [--width 64] [--task-tokens]

Architecture class, vocabulary, patch and merge sizes are the real ones; widths and depths are not. At width 64 it has
10 M parameters, 9.7 M of them in the embedding, and it knows nothing until it is trained.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.checkpoints import write_for_every_reader
from dyneval.conventions import Conventions
from dyneval.errors import SettingError, UserError
from dyneval.files.atomic import read_json, write_json
from dyneval.processing import Processor
from dyneval.qwen_vocabulary import build_tokenizer
from dyneval.replies import DEFAULT_FORM
from dyneval.tokens import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from transformers import Qwen3VLConfig

logger = logging.getLogger(__name__)

WIDTH = 64
TEXT: dict[str, Any] = {
    "vocab_size": 151_936,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 262_144,
    "bos_token_id": 151_643,
    "eos_token_id": 151_645,
    "tie_word_embeddings": True,
}
VISION: dict[str, Any] = {
    "depth": 2,
    "num_heads": 4,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [0, 1],
}
PREPROCESSOR: dict[str, Any] = {
    "size": {"longest_edge": 16_777_216, "shortest_edge": 65_536},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Qwen3VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessorFast",
}
VIDEO_PREPROCESSOR: dict[str, Any] = PREPROCESSOR | {
    "size": {"longest_edge": 25_165_824, "shortest_edge": 4_096},
    "video_processor_type": "Qwen3VLVideoProcessor",
}
GENERATION: dict[str, Any] = {
    "bos_token_id": 151_643,
    "pad_token_id": 151_643,
    "eos_token_id": [151_645, 151_643],
    "do_sample": True,
    "temperature": 0.7,
    "top_k": 20,
    "top_p": 0.8,
}
_RECIPE = "tiny_model.json"


def tiny_config(width: int = WIDTH) -> Qwen3VLConfig:
    """Configuration of the tiny model, `width` (a multiple of 32) the size of its hidden states.

    The class is the one that describes the 2B and 4B models.
    """
    from transformers import Qwen3VLConfig

    if width < 32 or width % 32:
        raise SettingError(f"width must be a multiple of 32, not {width}")
    # Half the head width, split between time, height and width about as Qwen3-VL's [24, 20, 20] is.
    rope = {
        "rope_type": "default",
        "rope_theta": 5_000_000,
        "mrope_section": [width // 16, width // 32, width // 32],
        "mrope_interleaved": True,
    }
    # The 0.02 of wide models would make every layer nearly linear, and fine detail in images nearly invisible.
    sizes = {"hidden_size": width, "intermediate_size": 3 * width, "initializer_range": width**-0.5}
    text = TEXT | sizes | {"head_dim": width // 4, "rope_parameters": rope}
    vision = VISION | sizes | {"out_hidden_size": width}
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)


def build_tiny_model(output: Path, seed: int = 0, task_tokens: bool = False, width: int = WIDTH) -> None:
    """Save the tiny model to `output`: the folder appears complete or not at all, and is kept when it is there.

    Args:
        output: folder of the checkpoint; it must not exist, or hold a checkpoint of this module with the same settings.
        seed: of the random weights; the same seed gives the same bytes.
        task_tokens: register the task tokens, as training does: an untrained student that can be scored with.
        width: of the hidden states.

    Raises:
        FileExistsError: `output` holds something else.
    """
    recipe = {"seed": seed, "width": width, "task_tokens": task_tokens}
    if output.exists() and any(output.iterdir()):
        _check_existing(output, recipe)
        logger.info("tiny Qwen3-VL kept: %s", output)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        _save(folder, seed, width)
        if task_tokens:
            processor = Processor.from_pretrained(folder)
            # Random weights write no form of their own; it is scored as the student that it is compared with.
            processor.conventions = Conventions(DEFAULT_TEMPLATE, DEFAULT_FORM)
            processor.save_pretrained(folder)
        write_json(folder / _RECIPE, recipe)
        folder.chmod(0o755)  # mkdtemp makes folders that only their owner can enter
        folder.replace(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    logger.info("tiny Qwen3-VL written: %s", output)


def _check_existing(output: Path, recipe: dict[str, Any]) -> None:
    if not (output / _RECIPE).is_file():
        raise FileExistsError(f"{output} exists and is no tiny model; name another folder or delete it")
    found = read_json(output / _RECIPE)
    if found != recipe:
        raise FileExistsError(f"{output} holds a tiny model of {found}, not {recipe}; delete it or name another folder")


def _save(folder: Path, seed: int, width: int) -> None:
    import torch
    from transformers import GenerationConfig, Qwen3VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(tiny_config(width))
    model.generation_config = GenerationConfig(**GENERATION)
    model.save_pretrained(folder)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    # Servers of older transformers look for the template in this file.
    write_json(folder / "chat_template.json", {"chat_template": tokenizer.chat_template})
    write_for_every_reader(folder)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    write_json(folder / "video_preprocessor_config.json", VIDEO_PREPROCESSOR)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Save a tiny random Qwen3-VL as an ordinary checkpoint folder.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    parser.add_argument("--width", type=int, default=WIDTH, help=f"size of the hidden states (default {WIDTH})")
    parser.add_argument("--task-tokens", action="store_true", help="register the task tokens in its tokenizer")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build_tiny_model(arguments.output, arguments.seed, arguments.task_tokens, arguments.width)
    except (UserError, OSError) as error:
        raise SystemExit(f"tiny_model: {error}") from error


if __name__ == "__main__":
    main()
