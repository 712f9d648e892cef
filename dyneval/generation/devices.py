"""Which devices a run uses, and how a model's weights are laid on one."""

from __future__ import annotations

from collections.abc import Sequence

REMOTE_FAMILIES = frozenset({"hosted", "demo"})
"""Families that use no device of this machine: one worker suffices."""


def choose_devices(family: str, asked: Sequence[str] = ()) -> list[str]:
    """The devices asked for, else every GPU that is visible (CUDA_VISIBLE_DEVICES is respected), else the CPU."""
    if asked:
        return list(asked)
    if family in REMOTE_FAMILIES:
        return ["cpu"]
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
