"""Estimates the memory that a run will take, phase by phase, before it is started.

Bytes a parameter are counted from what DeepSpeed keeps: weights 2 (bfloat16); of a trained one also gradients 2,
float32 weights 4, Adam's moments 8 and, while it steps, a float32 gradient 4. What the table of words takes beyond that
was measured on a CPU (`benchmarks/true_shapes.py`); benchmarks/README.md has estimates and measurements side by side.
An estimate that is too low lets a run start that dies in its first step or, worse, when it saves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dyneval.errors import SettingError
from dyneval.work.memory import free_memory
from qwenvl.errors import TrainingInputError
from qwenvl.train.argument import ModelArguments
from qwenvl.train.lora import target_pattern
from qwenvl.train.modeling import part_of, trained_parts

GIB = 2**30
PROCESS = 0.5 * GIB
"""Bytes of Python with torch and DeepSpeed on a CPU, or of CUDA itself on a GPU."""
LIVE = 10**9
"""Parameters that ZeRO-3 keeps gathered at once, by `stage3_max_live_parameters`."""
MARGIN = 1.15
"""A run is refused where it needs over so many times what is free: measured runs came as near to the estimate."""
PATCH_AREA = 256
"""Pixels of a patch."""
TABLE_GRADIENTS = {True: 14, False: 6}
"""Bytes more for each value of the trained table of words, on a CPU (True) and on a GPU. The table is embedding and
head in one and has gradients from both. The first figure was measured; the second is counted: both gradients and a copy
to be reduced, in bfloat16."""
TARGETS = 2 / 3
"""Share of the tokens that are learned, at most: a scene graph and its questions are most of an IQA sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """The sizes of a model on which its memory depends: numbers of parameters, and widths."""

    everything: int
    """Adapters among them."""
    trained: int
    adapters: int = 0
    adapted: int = 0
    """Parameters of the layers that have adapters."""
    trains_table: bool
    """Whether the table of words is trained."""
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    patch_values: int = 0
    """Values that the vision tower keeps of each patch for its gradient; 0 where it is frozen."""

    @classmethod
    def of(cls, model: Any, arguments: ModelArguments) -> Sizes:
        """Count a model, before adapters are added; it may be one without weights (device meta).

        Raises:
            TrainingInputError: no layer has one of the names of --lora_modules.
        """
        text, vision, parts = model.config.get_text_config(), model.config.vision_config, trained_parts(arguments)
        adapters = adapted = 0
        if arguments.lora_enable:
            parts["language"] = False
            pattern = target_pattern(model, arguments.lora_modules)
            shapes = [one.weight.shape for name, one in model.named_modules() if re.fullmatch(pattern, name)]
            adapters = sum(arguments.lora_r * sum(shape) for shape in shapes)
            adapted = sum(map(torch.Size.numel, shapes))
        counts = [(part_of(name), one.numel()) for name, one in model.named_parameters()]
        return cls(
            everything=sum(size for _, size in counts) + adapters,
            trained=sum(size for part, size in counts if parts[part]) + adapters,
            adapters=adapters,
            adapted=adapted,
            trains_table=parts["language"],
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            intermediate=text.intermediate_size,
            vocabulary=text.vocab_size,
            # Of each block: the input, queries, keys and values, both norms, and both sides of the activation.
            patch_values=vision.depth * (8 * vision.hidden_size + 2 * vision.intermediate_size) * parts["vision"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The largest batch of a device, and the devices that share a step.

    Attributes:
        tokens: of the batch.
        patches: of its images, 16 x 16 pixels each.
        chunks: pieces in which logits are made.
        ranks: devices.
        local: of them, those of this machine.
        cpu: they are processes on the CPU.
    """

    tokens: int
    patches: int
    chunks: int
    ranks: int
    local: int
    cpu: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Zero:
    """What DeepSpeed divides among the ranks, and what it keeps in the memory of the machine.

    Attributes:
        stage: of ZeRO, 0-3.
        offload_optimizer: the optimizer's state and gradients are in the machine's memory.
        offload_weights: so are the weights.
    """

    stage: int
    offload_optimizer: bool = False
    offload_weights: bool = False

    @classmethod
    def read(cls, path: Path) -> Zero:
        """Read a DeepSpeed configuration. Raises SettingError."""
        try:
            chosen: dict[str, Any] = json.loads(path.read_text()).get("zero_optimization", {})
            places = [
                chosen.get(f"offload_{part}", {}).get("device", "none") != "none" for part in ("optimizer", "param")
            ]
            return cls(stage=int(chosen.get("stage", 0)), offload_optimizer=places[0], offload_weights=places[1])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            message = f"{path}: no DeepSpeed configuration ({error}); set DEEPSPEED"
            raise SettingError(message) from None


def needed(sizes: Sizes, load: Load, zero: Zero) -> tuple[dict[str, float], dict[str, float]]:
    """Return bytes by phase that one device needs, and those that the machine needs beside its devices.

    Phases are "step" and, for the first of the ranks, "save" and with adapters "merge". On a CPU a device is a process,
    which needs all of it.

    Args:
        sizes: of the model.
        load: the largest batch, and the devices.
        zero: what DeepSpeed divides and offloads.
    """
    # ZeRO divides the optimizer's state from stage 1 on, gradients from stage 2 on, and weights in stage 3.
    weights = 2 * sizes.everything / (load.ranks if zero.stage == 3 else 1)
    gradients = 2 * sizes.trained / (load.ranks if zero.stage >= 2 else 1)
    optimizer = 16 * sizes.trained / (load.ranks if zero.stage >= 1 else 1)
    gathered = 2.0 * min(sizes.everything, LIVE) if zero.stage == 3 else 0.0
    table = sizes.vocabulary * sizes.hidden
    ends = TABLE_GRADIENTS[load.cpu] * table * sizes.trains_table
    # With checkpointing, one state a layer and token is kept, and one layer at a time is computed again.
    kept = 2 * sizes.layers * sizes.hidden * load.tokens + 2 * sizes.patch_values * load.patches
    again = 4 * load.tokens * (6 * sizes.hidden + 3 * sizes.intermediate)
    # 16 bytes a logit: bfloat16 and float32, the gradients of both, and what the loss keeps.
    logits = 16 * sizes.vocabulary * TARGETS * load.tokens / load.chunks
    held = PROCESS + weights * (not zero.offload_weights) + (gradients + optimizer) * (not zero.offload_optimizer)
    step = held + gathered + ends + kept + again + logits
    # While merging, only layers with adapters are in memory, in float32; the others are copied from the base's files.
    merge = 4.0 * sizes.adapted
    if load.cpu:
        # The heap does not give back what a step needed, and the table, the largest weight, is gathered once more.
        own = {"step": step, "save": step + 2 * table}
        return own | ({"merge": held + gathered + merge} if sizes.adapted else {}), {}
    beside = load.local * (weights * zero.offload_weights + (gradients + optimizer) * zero.offload_optimizer)
    machine = {"step": beside, "save": beside + 2 * (sizes.adapters or sizes.everything)}
    return {"step": step}, machine | ({"merge": beside + merge} if sizes.adapted else {})


def patches_of(tokens: int, batch: int, max_pixels: int, *, packing: bool) -> int:
    """Return the patches of a batch's images, at most.

    Args:
        tokens: of the batch.
        batch: its samples, of one image each at most.
        max_pixels: of an image; a patch has `PATCH_AREA` of them.
        packing: a pack may consist of images, with 4 patches a token.
    """
    return 4 * tokens if packing else batch * max_pixels // PATCH_AREA


def largest_batch(lengths: NDArray[np.integer[Any]], size: int) -> int:
    """Return the tokens of the largest batch of `size` samples that a run of many steps will meet.

    The `size` longest samples hardly ever meet: 1,000 batches are drawn from `lengths`, and the largest counts.
    """
    draws = np.random.default_rng(0).integers(0, len(lengths), (1000, size))
    return int(lengths[draws].sum(1).max())


def check_fits(sizes: Sizes, load: Load, zero: Zero) -> tuple[dict[str, float], float]:
    """Compare each phase with the memory that is free now, on the current GPU or, on a CPU, in the machine.

    Args:
        sizes: of the model.
        load: the largest batch, and the devices.
        zero: what DeepSpeed divides and offloads.

    Returns:
        GiB by phase, all processes of a CPU together, and GiB that are free. Phases in the machine's memory beside GPUs
        are named "... (machine)".

    Raises:
        TrainingInputError: a phase cannot fit.
    """
    own, beside = needed(sizes, load, zero)
    phases = {phase: size * (load.local if load.cpu else 1) / GIB for phase, size in own.items()}
    machine = {f"{phase} (machine)": size / GIB for phase, size in beside.items() if size}
    free = free_memory(torch.device("cpu" if load.cpu else "cuda")) / GIB
    tables = [(phases, free)]
    if machine:
        tables.append((machine, free_memory(torch.device("cpu")) / GIB))
    for table, available in tables:
        worst = max(table, key=table.__getitem__)
        if table[worst] <= MARGIN * available:
            continue
        less = [] if sizes.adapted else ["train adapters (--lora_enable True)"]
        if not load.cpu:
            less += ["use more GPUs", "keep weights on the machine (DEEPSPEED=scripts/zero3_offload.json)"]
        less.append("take smaller batches, or a machine with more memory")
        raise TrainingInputError(
            f"the run does not fit into memory: its phase {worst} needs about {table[worst]:.1f} GiB, {available:.1f} "
            f"GiB are free: {', '.join(less)}"
        )
    return phases | machine, free


def in_words(phases: Mapping[str, float], free: float) -> str:
    """Return in words what `check_fits` found."""
    return f"about {', '.join(f'{phase} {size:.1f}' for phase, size in phases.items())} GiB, {free:.1f} are free"
