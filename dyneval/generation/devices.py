"""Which devices a run uses, and how a model's weights are laid on one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal

from dyneval.errors import GenerationError


def choose_devices(family: str, asked: Sequence[str] = ()) -> list[str]:
    """The devices asked for, else every GPU that is visible (CUDA_VISIBLE_DEVICES is respected), else the CPU.

    Raises:
        GenerationError: torch knows no such device here.
    """
    if asked:
        for device in asked if family in ("diffusers", "transformers") else ():  # an external model has its own torch
            _refuse_missing(device)
        return list(asked)
    if family == "hosted":
        return ["cpu"]  # the work is done elsewhere
    if family == "demo":
        return ["cpu"] * (os.cpu_count() or 1)  # drawn by plain Python code: a process a core
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


def _refuse_missing(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except Exception as error:  # of the name, of a build without CUDA, of the driver
        reason = str(error).splitlines()[0]
        raise GenerationError(f"--devices {device}: there is no such device here ({reason})") from error


Placement = Literal["resident", "model_offload", "sequential_offload"]

HEADROOM = 4 * 2**30
"""Bytes kept free for activations."""


def choose_placement(
    sizes: Iterable[int], device: str, asked: Placement | Literal["auto"] = "auto", pipelines: int = 1
) -> Placement:
    """Where weights of these sizes (bytes a component) lie: as asked, else by the memory free on `device` now.

    resident: everything on the device; model_offload: one component at a time; sequential_offload: one layer at a time.
    With several pipelines on one device each gets its part of what is free. On a CPU nothing is moved.
    """
    if not device.startswith("cuda"):
        return "resident"
    if asked != "auto":
        return asked
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return fitting_placement(list(sizes), free // pipelines)


def fitting_placement(sizes: Sequence[int], free: int) -> Placement:
    """The fastest placement of components of these sizes in `free` bytes."""
    if sum(sizes) + HEADROOM <= free:
        return "resident"
    return "model_offload" if max(sizes, default=0) + HEADROOM <= free else "sequential_offload"
