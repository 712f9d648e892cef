"""Measures the steps of a run: tokens and samples a second, padding, loss by task, memory, model FLOPs utilisation.

Sums are kept on the device and reduced over the ranks only when a report is due: reading a figure from a GPU makes the
program wait for it, and in every micro-batch that would slow training down.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from transformers import PreTrainedModel

from qwenvl.train.loss import TASKS
from qwenvl.train.modeling import own_parameters, part_of

TASK_NAMES = ("other", "t2ia", "iqa", "evaluation")
PEAK_BF16_TFLOPS = {
    **{"B200": 2250.0, "H200": 989.0, "H100": 989.0, "H800": 989.0, "A100": 312.0, "A800": 312.0},
    **{"L40S": 362.0, "A40": 149.7, "A10": 125.0, "RTX 4090": 165.2, "RTX 3090": 71.0},
}
"""Dense bfloat16 peak by a part of the device's name, from the makers' data sheets."""
_COUNTS = ("samples", "tokens", "targets", "padding", "patches")


@dataclass(frozen=True, slots=True)
class Work:
    """Parameters that multiply with each token, target or patch, for counting FLOPs.

    Attributes:
        language: parameters of the language model without its table of words; each token.
        head: parameters of the head; each target.
        vision: parameters of the vision tower; each patch.
        vision_trained: gradients of the vision tower are computed.
        language_trained: the same of the language model; False with adapters, whose weights are counted among
            the language's.
    """

    language: int
    head: int
    vision: int
    vision_trained: bool
    language_trained: bool

    @classmethod
    def of(cls, model: PreTrainedModel) -> Work:
        """Count the parameters of a model, before or after ZeRO-3 has divided them."""
        sizes = {"language": 0, "merger": 0, "vision": 0}
        vision_trained = language_trained = False
        for name, parameter in own_parameters(model):
            part = part_of(name)
            # The table of words is looked up, not multiplied; as the head it multiplies with targets only.
            if part == "language" and name.endswith(("embed_tokens.weight", "lm_head.weight")):
                continue
            # Under ZeRO-3 a parameter is an empty tensor, with its true size beside it.
            sizes[part] += getattr(parameter, "ds_numel", parameter.numel())
            vision_trained |= parameter.requires_grad and part == "vision"
            added = ".lora_" in name or ".task_rows." in name
            language_trained |= parameter.requires_grad and part == "language" and not added
        text = model.config.get_text_config()
        head = text.vocab_size * text.hidden_size
        return cls(sizes["language"], head, sizes["vision"], vision_trained, language_trained)

    def flops(self, tokens: float, targets: float, patches: float) -> float:
        """Return the FLOPs of forward and backward, without those of attention.

        For each parameter and token 2 are forward, 2 pass gradients on, and 2 are the gradient of the parameter.

        Args:
            tokens: that the language model read.
            targets: tokens of which logits were made.
            patches: that the vision tower read.
        """
        language = (6 if self.language_trained else 4) * (self.language * tokens + self.head * targets)
        return language + (6 if self.vision_trained else 2) * self.vision * patches


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Sums over micro-batches and ranks."""

    counts: dict[str, float]
    losses: list[float]
    """Sums of the token losses by task."""
    targets: list[float]
    """Number of targets by task."""
    bad: int
    seconds: float
    """Since the totals before."""
    ranks: int

    @property
    def loss(self) -> float:
        """Mean over all targets, independent of batches and ranks; NaN without any."""
        return sum(self.losses) / sum(self.targets) if sum(self.targets) else math.nan

    def task_losses(self) -> dict[str, float]:
        """Mean over the targets of each task that has any."""
        by_task = zip(TASK_NAMES, self.losses, self.targets, strict=True)
        return {f"loss_{name}": round(total / count, 4) for name, total, count in by_task if count}


class Meter:
    """Sums over the micro-batches since the last totals, on the device.

    Attributes:
        work: of the model, for the utilisation.
        device: of the sums.
        bad: unreadable samples of all ranks since training began.
    """

    def __init__(self, work: Work, device: torch.device) -> None:
        """Start counting."""
        self.work = work
        self.device = device
        self.bad = 0
        self._reset()

    def _reset(self) -> None:
        # float64: float32 counts whole numbers exactly to 16.8 million only.
        self.sums = torch.zeros(len(_COUNTS) + 2 * TASKS + 1, dtype=torch.float64, device=self.device)
        self.since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time that the block takes."""
        start = time.perf_counter()
        yield
        self.since += time.perf_counter() - start

    def add(self, counts: torch.Tensor, task_losses: torch.Tensor, task_targets: torch.Tensor, bad: int) -> None:
        """Count one micro-batch; nothing is read from the device.

        Args:
            counts: samples, tokens, targets, padding and patches, shape (5,).
            task_losses: sums of the token losses by task, shape (4,).
            task_targets: number of targets by task, shape (4,).
            bad: samples that could not be read.
        """
        self.sums += torch.cat([counts, task_losses, task_targets, torch.tensor([bad], device=self.device)])

    def totals(self) -> Totals:
        """Return the sums since the last call over all ranks. Every rank must call it: it is a collective call."""
        seconds = time.perf_counter() - self.since
        sums, ranks = self.sums, 1
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
            ranks = torch.distributed.get_world_size()
        counts, losses, targets, bad = (one.tolist() for one in torch.split(sums, [len(_COUNTS), TASKS, TASKS, 1]))
        self._reset()
        return Totals(
            counts=dict(zip(_COUNTS, counts, strict=True)),
            losses=losses,
            targets=targets,
            bad=int(bad[0]),
            seconds=seconds,
            ranks=ranks,
        )

    def report(self) -> dict[str, float]:
        """Return the figures of the training steps since the last report. Every rank must call it."""
        totals = self.totals()
        counts, seconds = totals.counts, totals.seconds
        self.bad += totals.bad
        peak = (
            torch.cuda.max_memory_allocated(self.device)
            if self.device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts it in KiB
        )
        flops = self.work.flops(counts["tokens"], counts["targets"], counts["patches"])
        figures = {
            "tokens_per_second": round(counts["tokens"] / seconds, 1),
            "samples_per_second": round(counts["samples"] / seconds, 3),
            "target_tokens": counts["targets"],
            "padding_share": round(counts["padding"] / max(1.0, counts["tokens"] + counts["padding"]), 4),
            "memory_gib": round(peak / 2**30, 3),
        }
        return figures | utilisation(flops / seconds / totals.ranks, self.device) | totals.task_losses()


def utilisation(flops_per_second: float, device: torch.device) -> dict[str, float]:
    """Return `mfu`, the share of the dense bfloat16 peak of one device, 0-1; nothing where the peak is unknown."""
    if device.type != "cuda":
        return {}
    name = torch.cuda.get_device_name(device)
    peak = next((tflops for part, tflops in PEAK_BF16_TFLOPS.items() if part in name), None)
    return {"mfu": round(flops_per_second / (peak * 1e12), 4)} if peak else {}
