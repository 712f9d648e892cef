"""Which devices a run uses, and how a model's weights are laid on one.

Weights that do not fit stay partly in the memory of the machine, which is slower but draws. A wrong choice here shows
as an out-of-memory error while the model loads, or as a model that is needlessly slow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal

from dyneval.errors import GenerationError


def choose_devices(family: str, asked: Sequence[str] = ()) -> list[str]:
    """Return the devices asked for, else every GPU that is visible (CUDA_VISIBLE_DEVICES counts), else the CPU.

    Args:
        family: of the model. A hosted model needs no device; a demo model gets a process for each core.
        asked: devices as torch names them, such as "cuda:0".

    Raises:
        GenerationError: torch has no such device here.
    """
    if asked:
        # Only these two families draw with the torch that is imported here; an external model has a torch of its own.
        for device in asked if family in ("diffusers", "transformers") else ():
            import torch

            try:
                torch.empty(0, device=device)
            except Exception as error:  # a wrong name, a torch without CUDA and a driver each raise another class
                reason = str(error).splitlines()[0]
                raise GenerationError(f"--devices {device}: there is no such device here ({reason})") from error
        return list(asked)
    if family == "hosted":
        return ["cpu"]  # the work is done elsewhere
    if family == "demo":
        return ["cpu"] * (os.cpu_count() or 1)  # drawn by plain Python code: a process a core
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


Placement = Literal["resident", "model_offload", "sequential_offload"]
"""resident: everything on the device; model_offload: one component at a time; sequential_offload: one layer."""

HEADROOM = 4 * 2**30
"""Bytes kept free for activations."""


def choose_placement(
    sizes: Iterable[int], device: str, asked: Placement | Literal["auto"] = "auto", pipelines: int = 1
) -> Placement:
    """Return where weights lie: as asked, else by the memory that is free on the device now.

    Args:
        sizes: bytes of each component.
        device: "cuda:0", "cpu". On a CPU there is nowhere to move weights from, so they are resident.
        asked: "auto" measures.
        pipelines: how many share the device; each gets its part of what is free.
    """
    if not device.startswith("cuda"):
        return "resident"
    if asked != "auto":
        return asked
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return fitting_placement(list(sizes), free // pipelines)


def fitting_placement(sizes: Sequence[int], free: int) -> Placement:
    """Return the fastest placement of components of these sizes in `free` bytes."""
    if sum(sizes) + HEADROOM <= free:
        return "resident"
    return "model_offload" if max(sizes, default=0) + HEADROOM <= free else "sequential_offload"
