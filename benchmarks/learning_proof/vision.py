"""Warm-up of the vision tower: from the picture alone to what is in it and how badly it is damaged.

    python benchmarks/learning_proof/vision.py --model DIR --world DIR --output DIR

A real student starts from a vision tower that has seen the world; this stands in for that. No question and no score is
seen here, only kind, colour and number of what was drawn and the severities of the faults of the training images.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from tqdm import trange
from transformers import Qwen3VLForConditionalGeneration

from dyneval.checkpoints import write_for_every_reader
from dyneval.demo import vocabulary as words
from dyneval.demo.faults import QUALITY_FAULTS
from dyneval.demo.truth import Truth, truth_path
from dyneval.files.images import load_image
from dyneval.files.jsonl import read_jsonl
from dyneval.processing import Processor

CLASSES = {"kind": tuple(words.KINDS), "colour": tuple(words.COLOURS), "count": tuple(words.COUNTS)}
BATCH = 64


def load_world(world: Path, processor: Processor) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
    """Patches (N, P, D) in half precision, the grid of an image (1, 3), classes (N,) by name, severities (N, F)."""
    heldout = {row["file_name"] for row in read_jsonl(world / "heldout.jsonl")}
    images = [path for path in sorted((world / "images").glob("*.png")) if path.name not in heldout]
    pixels, grid = [], torch.empty(0)
    for path in images:
        inputs = processor.image_processor(images=[load_image(path)], return_tensors="pt")
        pixels.append(inputs["pixel_values"].half())
        grid = inputs["image_grid_thw"]
    truths = [Truth.load(truth_path(path)) for path in images]
    classes = {
        name: torch.tensor([options.index(getattr(truth.drawn.groups[0], name)) for truth in truths])
        for name, options in CLASSES.items()
    }
    severities = [
        [sum(fault.severity for fault in truth.faults if fault.kind == kind) for kind in QUALITY_FAULTS]
        for truth in truths
    ]
    return torch.stack(pixels), grid, classes, torch.tensor(severities)


def warm_up(visual: nn.Module, world: tuple[Tensor, Tensor, dict[str, Tensor], Tensor], steps: int) -> None:
    """Train the tower in place, with linear heads on the mean of its image tokens that are thrown away afterwards."""
    pixels, grid, classes, severities = world
    scale = severities.std(0)
    width = visual.config.out_hidden_size
    heads = nn.ModuleDict({name: nn.Linear(width, len(options)) for name, options in CLASSES.items()})
    heads["severity"] = nn.Linear(width, severities.shape[1])
    parameters = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.05)
    with trange(steps, desc="vision", unit="step") as bar:
        for _ in bar:
            index = torch.randint(len(pixels), (BATCH,))
            patches = pixels[index].float().flatten(0, 1)
            tokens = visual(patches, grid_thw=grid.repeat(BATCH, 1)).pooler_output
            seen = tokens.reshape(BATCH, -1, width).mean(1)
            loss = mse_loss(heads["severity"](seen), severities[index] / scale)
            for name, labels in classes.items():
                loss = loss + 0.3 * cross_entropy(heads[name](seen), labels[index])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Warm up the vision tower of the learning proof's model.")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder of a tiny model")
    parser.add_argument("--world", type=Path, required=True, help="folder that world.py wrote")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--steps", type=int, default=600)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    processor = Processor.from_pretrained(arguments.model, min_pixels=16_384, max_pixels=16_384)
    model = Qwen3VLForConditionalGeneration.from_pretrained(arguments.model, dtype=torch.float32)
    warm_up(model.model.visual, load_world(arguments.world, processor), arguments.steps)
    shutil.copytree(arguments.model, arguments.output, dirs_exist_ok=True)
    model.save_pretrained(arguments.output)
    write_for_every_reader(arguments.output)


if __name__ == "__main__":
    main()
