"""Conversations on which DynEval and the published training code must agree, and what transformers makes of them.

A Python of tests/environments.py runs this file as a script. It uses no code of DynEval: the published code hands each
conversation to transformers' own processor, then marks the targets. `published.json` holds the numbers, made with

    .venv-tests/transformers-4.57.6-torchvision/bin/python tests/qwenvl/published.py CHECKPOINT FOLDER
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).with_name("published.json")
TASK_TOKENS = ["<|T2IA|>", "<|IQA|>", "<|EVALUATION|>"]
ASSISTANT, TURN_END = 77091, 151645

T2IA = "<|T2IA|>\nPrompt: {}\nGenerate atomic yes/no verification questions for text-to-image alignment"
IQA = (
    "<|IQA|>\nParse the image into a scene graph and generate image-quality questions for shape consistency, "
    "distortions, texture fidelity, and spatial cues."
)
EVALUATION = (
    "<|EVALUATION|>\nPrompt: {}\nQuestions:\n1. {}\n2. {}\nAnswer each question and assign a score from 1 to 5."
)
BENCH = EVALUATION.format("a red bench by the sea", "Is a bench visible?", "Is the bench red?")
QUESTIONS = [{"question": "Is a bench visible?", "answer": "yes"}, {"question": "Is it red?", "answer": "yes"}]
GRAPH = {
    "nodes": [
        {"id": "n1", "label": "bench", "attributes": ["wooden", "red"]},
        {"id": "n2", "label": "sea", "attributes": []},
    ],
    "edges": [{"source": "n1", "target": "n2", "relationship": "in front of"}],
}
README_ANSWERS = {
    "answers": [
        {"question": "Is a bench visible?", "score": 5, "reasoning": "A bench stands in the centre."},
        {"question": "Is the bench red?", "score": 2, "reasoning": "It is brown."},
    ]
}
RELEASE_T2IA_ANSWERS = {
    "answers": [
        {"question": "Is a bench visible?", "target_answer": "yes", "reasoning": "In the centre.", "score": 5},
        {"question": "Is the bench red?", "target_answer": "yes", "reasoning": "It is brown.", "score": 2},
    ],
    "score": 4,
}
RELEASE_IQA_ANSWERS = {
    "answers": [
        {
            "question": "Is the bench's shape intact?",
            "answer": "no",
            "target_answer": "yes",
            "correct": False,
            "reasoning": "A leg is missing.",
        }
    ],
    "score": 2,
}
# Composed on purpose of letters that NFC puts together, wide characters, and emoji of several code points.
NFD, CJK, EMOJI = "un cafe\u0301 a\u0300 Ha\u0300 No\u0323\u0302i", "赤いベンチと海、「静か」な午後", "👩‍👩‍👧‍👦🏳️‍🌈 ①²"


class Case(NamedTuple):
    """A conversation: human and assistant turns in order, the sizes of its images, and the pixel limits."""

    turns: tuple[str, ...]
    images: tuple[tuple[int, int], ...] = ()
    limits: tuple[int, int] = (784, 50_176)

    @property
    def suits_qwen_vl_utils(self) -> bool:
        """Whether that package gives these images the same size: its rule differs at sides under 16 and odd limits."""
        return self.limits == (784, 50_176) and all(side >= 16 for size in self.images for side in size)

    def sample(self) -> dict[str, Any]:
        """The conversation as an annotation file holds it."""
        turns = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(self.turns)]
        names = [f"{width}x{height}.png" for width, height in self.images]
        image = {"image": names[0] if len(names) == 1 else names} if names else {}
        return image | {"conversations": turns}


def reply(value: Any) -> str:
    """An assistant turn as the published builder writes it."""
    return json.dumps(value, ensure_ascii=False)


CASES = {
    "t2ia-readme": Case((f"{T2IA.format('a red bench by the sea')}.", reply(QUESTIONS))),
    "t2ia-release": Case(
        (f"{T2IA.format('a red bench by the sea')}, including distortion checks.", reply(QUESTIONS)),
    ),
    "iqa": Case((f"<image>\n{IQA}", reply({"scene_graph": GRAPH, "questions": QUESTIONS})), ((333, 517),)),
    "iqa-empty-graph": Case((f"<image>\n{IQA}", reply({"scene_graph": {}, "questions": []})), ((224, 224),)),
    "evaluation-readme": Case((f"<image>\n{BENCH}", reply(README_ANSWERS)), ((1024, 768),)),
    "evaluation-release-t2ia": Case((f"<image>\n{BENCH}", reply(RELEASE_T2IA_ANSWERS)), ((1536, 1024),)),
    "evaluation-release-iqa": Case((f"<image>\n{BENCH}", reply(RELEASE_IQA_ANSWERS)), ((100, 1500),)),
    "two-images": Case(("<image>\n<image>\nWhich is sharper?", "The first."), ((333, 517), (17, 23))),
    "two-turns": Case((f"<image>\n{IQA}", "[]", "And now?\nBriefly.", "Still none."), ((640, 480),)),
    "an-image-a-turn": Case(("<image>One?", "Yes.", " <image>\n<|IQA|>\nTwo?", "No."), ((15, 15), (224, 224))),
    "9x40": Case((f"<image>\n{BENCH}", reply(README_ANSWERS)), ((9, 40),)),
    "1x1": Case((f"<image>\n{IQA}", "[]"), ((1, 1),)),
    "15x15": Case((f"<image>\n{IQA}", "[]"), ((15, 15),)),
    "17x23": Case((f"<image>\n{IQA}", "[]"), ((17, 23),)),
    "unicode": Case(
        (
            f"<image>\n{EVALUATION.format(f'{NFD}, {CJK}', f'{EMOJI}?', f'{CJK}?')}",
            reply({"answers": [{"question": f"{EMOJI}?", "score": 3, "reasoning": f"{NFD} {CJK} {EMOJI}"}]}),
        ),
        ((320, 256),),
    ),
    "white-space-before-a-task-token": Case((f" \n\t{T2IA.format('a cat')}.", "[]")),
    "white-space-around-text": Case(("\n  Describe a bench. \n\n", "  A seat.\n")),
    "small-budget": Case((f"<image>\n{IQA}", "[]"), ((9, 40),), (1024, 9216)),
    "off-the-grid": Case((f"<image>\n{IQA}", "[]"), ((333, 517),), (100_000, 100_000)),
    "off-the-grid-enlarged": Case((f"<image>\n{IQA}", "[]"), ((15, 40),), (100_000, 100_000)),
    "under-a-token": Case((f"<image>\n{IQA}", "[]"), ((100, 1500),), (500, 900)),
}


def make_images(folder: Path) -> None:
    """Write the images of all cases: a gradient under noise, so that resizing has edges to get wrong."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for width, height in {size for case in CASES.values() for size in case.images}:
        noise = np.random.default_rng(width * 10_000 + height).integers(0, 60, (height, width, 3))
        slope = np.add.outer(np.linspace(0, 90, height), np.linspace(0, 100, width))[..., None]
        Image.fromarray((noise + slope).astype(np.uint8)).save(folder / f"{width}x{height}.png")


def compact(values: list[int]) -> str:
    """Numbers in few characters: `7*3` for three sevens, `4-9` for four to nine; short runs stand as they are."""
    pieces: list[str] = []
    start = 0
    while start < len(values):
        step = values[start + 1] - values[start] if start + 1 < len(values) else None
        end = start + 1
        while step in (0, 1) and end < len(values) and values[end] - values[end - 1] == step:
            end += 1
        if end - start < 3:
            end = start + 1
            pieces.append(str(values[start]))
        else:
            pieces.append(f"{values[start]}*{end - start}" if step == 0 else f"{values[start]}-{values[end - 1]}")
        start = end
    return " ".join(pieces)


def numbers(ids: list[int], labels: list[int], positions: list[list[int]], grids: list[list[int]]) -> dict[str, Any]:
    """What `published.json` holds of a case. `targets` are the spans whose label is the token itself."""
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    edges = [index for index, (one, two) in enumerate(pairwise([-100, *labels, -100])) if (one < 0) != (two < 0)]
    time, height, width = (compact(row) for row in positions)
    rows = {"time": time, "height": height, "width": width}
    return {
        "input_ids": compact(ids),
        "targets": [list(span) for span in zip(edges[::2], edges[1::2], strict=True)],
        "positions": time if time == height == width else rows,
        "grids": grids,
    }


def main(checkpoint: Path, folder: Path) -> None:
    """Write the numbers of all cases to standard output, and their pixel values to `<folder>/<case>.npz`."""
    import numpy as np
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLModel

    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 5e6}
    processor = _processor(checkpoint, folder)
    with torch.device("meta"):
        model = Qwen3VLModel(Qwen3VLConfig(text_config={"rope_scaling": rope}))
    found = {}
    for name, case in CASES.items():
        messages = _messages(case.sample(), folder)
        processor.image_processor.size = dict(zip(("shortest_edge", "longest_edge"), case.limits, strict=True))
        read = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
        grids = read.get("image_grid_thw")
        types = {"mm_token_type_ids": (read["input_ids"] == processor.image_token_id).int()}
        wants_types = "mm_token_type_ids" in inspect.signature(model.get_rope_index).parameters
        positions, _ = model.get_rope_index(read["input_ids"], image_grid_thw=grids, **(types if wants_types else {}))
        ids = read["input_ids"][0].tolist()
        found[name] = numbers(ids, _labels(ids), positions[:, 0].tolist(), grids.tolist() if case.images else [])
        if case.images:
            arrays = {"transformers": read["pixel_values"]}
            if case.suits_qwen_vl_utils:
                ready = _with_qwen_vl_utils(processor, messages, case.limits)
                arrays |= {"qwen_vl_utils": ready["pixel_values"], "grids": ready["image_grid_thw"]}
            np.savez(folder / f"{name}.npz", **arrays)
    rows = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in found.items()]
    sys.stdout.write("{" + ",\n".join(rows) + "}\n")


def _messages(sample: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    from PIL import Image

    names = sample.get("image", [])
    left = iter([names] if isinstance(names, str) else names)
    messages = []
    for turn in sample["conversations"]:
        if turn["from"] != "human":
            messages.append({"role": "assistant", "content": [{"type": "text", "text": turn["value"]}]})
            continue
        pieces = [piece.strip() for piece in re.split("(<image>)", turn["value"]) if piece.strip()]
        content = [
            {"type": "image", "image": Image.open(folder / next(left))}
            if piece == "<image>"
            else {"type": "text", "text": piece}
            for piece in pieces
        ]
        messages.append({"role": "user", "content": content})
    return messages


def _labels(ids: list[int]) -> list[int]:
    """Targets: from two tokens behind `assistant` to the token behind the end of that turn."""
    labels = [-100] * len(ids)
    for index, token in enumerate(ids):
        if token == ASSISTANT:
            end = ids.index(TURN_END, index) + 2
            labels[index + 2 : end] = ids[index + 2 : end]
    return labels


def _processor(checkpoint: Path, folder: Path) -> Any:
    """Qwen3-VL's processor of this transformers, put together by hand: version 4 cannot read what version 5 saves."""
    import transformers

    four = transformers.__version__.startswith("4.")
    kind = transformers.Qwen2VLImageProcessorFast if four else transformers.Qwen2VLImageProcessor
    half = [0.5, 0.5, 0.5]
    images = kind(size={"shortest_edge": 1, "longest_edge": 1}, patch_size=16, image_mean=half, image_std=half)
    tokenizer = _slow_tokenizer(checkpoint, folder) if four else _fast_tokenizer(checkpoint)
    return transformers.Qwen3VLProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        video_processor=transformers.Qwen3VLVideoProcessor(),
        chat_template=(checkpoint / "chat_template.jinja").read_text(),
    )


def _slow_tokenizer(checkpoint: Path, folder: Path) -> Any:
    """The tokenizer written in Python, which the published code asks for."""
    from transformers import AddedToken, Qwen2Tokenizer

    saved = json.loads((checkpoint / "tokenizer.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(saved["model"]["vocab"]))
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in saved["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]))
    tokenizer = Qwen2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="<|endoftext|>")
    for token in saved["added_tokens"]:
        tokenizer.add_tokens([AddedToken(token["content"], special=token["special"], normalized=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": TASK_TOKENS})
    return tokenizer


def _fast_tokenizer(checkpoint: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"), pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"extra_special_tokens": TASK_TOKENS}, replace_extra_special_tokens=False)
    return tokenizer


def _with_qwen_vl_utils(processor: Any, messages: list[dict[str, Any]], limits: tuple[int, int]) -> Any:
    """Pixels of images that Qwen's own package has resized."""
    from qwen_vl_utils import process_vision_info

    least, most = limits
    for message in messages:
        for part in message["content"]:
            if part["type"] == "image":
                part |= {"min_pixels": least, "max_pixels": most}
    images, _ = process_vision_info(messages, image_patch_size=16)
    return processor.image_processor(images=images, do_resize=False, return_tensors="pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
