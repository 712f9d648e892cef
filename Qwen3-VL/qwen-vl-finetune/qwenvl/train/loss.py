"""Computes the loss without the full table of logits: they are made only at targets, a piece at a time.

With 151,936 words, the logits of 8,192 tokens take 5 GB in float32; a third of the tokens are targets, and one piece of
eight is held at a time. The loss equals that of the full table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from dyneval.processing import IGNORE
from qwenvl.train.attention import PACKED_SDPA

TASKS = 4
"""Kinds of samples: without a task token, T2IA, IQA, EVALUATION."""


@dataclass
class TargetLossOutput(ModelOutput):
    """What a training forward returns."""

    loss: torch.Tensor | None = None
    task_losses: torch.Tensor | None = None
    """(4,) sums of the token losses by task, detached."""
    task_targets: torch.Tensor | None = None
    """(4,) number of targets by task."""


def target_losses(
    hidden: torch.Tensor, labels: torch.Tensor, lm_head: torch.nn.Module, chunks: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the cross-entropy of each target, K of them.

    Args:
        hidden: (B, T, H) last hidden states.
        labels: (B, T), -100 where there is no target; the state before a position predicts it.
        lm_head: maps states to logits.
        chunks: pieces that the targets are split into. The number is fixed, not the size: under ZeRO-3 each call of
            `lm_head` gathers its weights from all ranks, so all must call it equally often.

    Returns:
        (K,) losses in float32, and the (B, T - 1) mask of their positions.
    """
    # The state at position t predicts the token at t + 1, so labels are shifted by one against states.
    mask = labels[:, 1:] != IGNORE
    states, targets = hidden[:, :-1][mask], labels[:, 1:][mask]

    def piece(some_states: torch.Tensor, some_targets: torch.Tensor) -> torch.Tensor:
        # In float32: bfloat16 has 8 bits of precision, too few for a sum of exponentials over 151,936 words.
        return cross_entropy(lm_head(some_states).float(), some_targets, reduction="none")

    pieces = zip(states.tensor_split(chunks), targets.tensor_split(chunks), strict=True)
    if chunks == 1:
        return piece(states, targets), mask
    # Recomputed in the backward pass, so that one piece of logits is in memory at a time. Not the reentrant form: it
    # gives the head no gradient where the states need none, as above a frozen model.
    return torch.cat([checkpoint(piece, *some, use_reentrant=False) for some in pieces]), mask


class TargetLoss:
    """Mixin before a `...ForConditionalGeneration` class: with `labels`, `forward` returns the loss and no logits."""

    config: Any
    model: torch.nn.Module
    lm_head: torch.nn.Module
    # Trainer looks at this: it then counts the targets of the whole step over all ranks and passes their number.
    accepts_loss_kwargs = True
    loss_chunks = 8

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        tasks: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        sample_lengths: list[int] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the sum of the losses of all targets, divided by their number in the whole step.

        Args:
            input_ids: (B, T).
            labels: (B, T), -100 where there is no target; None: the model's own forward.
            tasks: (B, T), task of each position, 0-3, for losses by task.
            num_items_in_batch: targets of the whole step, over all micro-batches and ranks; None: those of this batch.
            sample_lengths: tokens of each sample of a flat batch, for attention that splits it.
            kwargs: what the model's own forward takes.
        """
        if self.config.get_text_config()._attn_implementation == PACKED_SDPA:
            kwargs["sample_lengths"] = sample_lengths
        if labels is None:
            return super().forward(input_ids=input_ids, **kwargs)  # type: ignore[misc]
        outputs = self.model(input_ids=input_ids, use_cache=False, **kwargs)
        losses, mask = target_losses(outputs.last_hidden_state, labels, self.lm_head, self.loss_chunks)
        # By the step's number of targets, not by this batch's: otherwise a token in a short batch would count for more.
        items = num_items_in_batch if num_items_in_batch is not None else mask.sum()
        # A step whose samples could not be read has no targets: its loss is 0, not 0/0.
        items = items.clamp(min=1) if isinstance(items, torch.Tensor) else max(1, items)
        task = tasks[:, 1:][mask] if tasks is not None else torch.zeros_like(losses, dtype=torch.long)
        sums = torch.zeros(TASKS, device=losses.device).index_add_(0, task, losses.detach())
        return TargetLossOutput(losses.sum() / items, sums, torch.bincount(task, minlength=TASKS))


def with_target_loss(model_class: type[PreTrainedModel], chunks: int) -> type[PreTrainedModel]:
    """Return the same model class with `TargetLoss` before it."""
    # Under the same name: `save_pretrained` writes it into config.json, where every reader looks the class up.
    members = {"__module__": model_class.__module__, "loss_chunks": chunks}
    return type(model_class.__name__, (TargetLoss, model_class), members)
