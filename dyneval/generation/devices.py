"""Which devices a run uses, and how a model's weights are laid on one."""

from __future__ import annotations

import os
from collections.abc import Sequence


def choose_devices(family: str, asked: Sequence[str] = ()) -> list[str]:
    """The devices asked for, else every GPU that is visible (CUDA_VISIBLE_DEVICES is respected), else the CPU."""
    if asked:
        return list(asked)
    if family == "hosted":
        return ["cpu"]  # the work is done elsewhere
    if family == "demo":
        return ["cpu"] * (os.cpu_count() or 1)  # drawn by plain Python code: a process a core
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
