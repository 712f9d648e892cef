"""Opens checkpoints, and writes one, as users of other releases do: with transformers alone, in their environment.

    python -P checkpoint_reader.py read FOLDER INPUTS REPORT
    python -P checkpoint_reader.py publish BASE INPUTS FOLDER    # as the published training code leaves it

INPUTS and REPORT are files of torch; the report of `publish` lies in FOLDER.
"""

from __future__ import annotations

import inspect
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

TASK_TOKENS = ["<|T2IA|>", "<|IQA|>", "<|EVALUATION|>"]


def read(folder: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What this release makes of a checkpoint: logits by conversation, ids and special tokens by kind of tokenizer."""
    model, loading = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    report: dict[str, Any] = {
        "version": transformers.__version__,
        "problems": {kind: sorted(map(str, names)) for kind, names in loading.items() if names},
        "logits": logits(model, inputs["conversations"]),
        "ends": model.generation_config.eos_token_id,
    }
    for kind in ("fast", "slow"):
        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=kind == "fast")
        ids = tokenizer(inputs["text"])["input_ids"]
        report[kind] = {
            "class": type(tokenizer).__name__,
            "ids": ids,
            "plain": tokenizer.decode(ids, skip_special_tokens=True),
            "special": sorted(tokenizer.all_special_ids),
            "marks": (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length, tokenizer.padding_side),
        }
    if find_spec("torchvision"):
        report["processor"] = processed(AutoProcessor.from_pretrained(folder), inputs)
    return report


def logits(model: Any, conversations: dict[str, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Logits (1, T, V) of each conversation; inputs that this release does not know are left out."""
    known = inspect.signature(model.forward).parameters
    with torch.no_grad():
        return {
            name: model.eval()(**{key: value for key, value in one.items() if key in known}).logits
            for name, one in conversations.items()
        }


def processed(processor: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Ids and grid of a turn with one image, by the release's own processor."""
    from PIL import Image

    content = [{"type": "image"}, {"type": "text", "text": inputs["question"]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    found = processor(text=[text], images=[Image.open(inputs["image"])], return_tensors="pt")
    return {"ids": found["input_ids"][0].tolist(), "grid": found["image_grid_thw"].tolist()}


def publish(base: str, inputs: dict[str, Any], folder: str) -> dict[str, Any]:
    """Save a base with the task tokens in the way of the published code: slow tokenizer, limits on the processor."""
    model = AutoModelForImageTextToText.from_pretrained(base)
    for part in (model.config.text_config, model.config.vision_config):
        vars(part).pop("rope_parameters", None)  # a name of transformers 5, which bases of that time did not have
    processor: Any = AutoProcessor.from_pretrained(base)
    processor.image_processor.min_pixels, processor.image_processor.max_pixels = 784, 50_176
    processor.image_processor.size = {"shortest_edge": 784, "longest_edge": 50_176}
    processor.save_pretrained(folder)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
        Path(folder, name).unlink(missing_ok=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, use_fast=False, padding_side="right", model_max_length=8192)
    tokenizer.add_special_tokens({"additional_special_tokens": TASK_TOKENS})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"logits": logits(model, inputs["conversations"]), "ids": tokenizer(inputs["text"])["input_ids"]}


if __name__ == "__main__":
    command, source, given, target = sys.argv[1:]
    if command == "read":
        torch.save(read(source, torch.load(given)), target)
    else:
        torch.save(publish(source, torch.load(given), target), Path(target, "report.pt"))
