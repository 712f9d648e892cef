"""Attention over samples laid end to end, without a mask, where flash-attention is not installed.

transformers' own SDPA path builds a mask over the whole sequence and computes L x L products for it. Here attention
runs on each sample by itself, causally, so a sequence costs what its samples cost. It is registered with transformers
under the name `packed_sdpa`. With wrong lengths, samples would attend to each other and nothing would fail.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

PACKED_SDPA = "packed_sdpa"


def packed_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sample_lengths: list[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within each sample of one sequence.

    Args:
        module: the attention layer.
        query: (1, heads, T, width).
        key: (1, key heads, T, width).
        value: like `key`.
        attention_mask: none; samples are kept apart by `sample_lengths`.
        dropout: probability.
        scaling: factor of the products; None: 1 / sqrt(width).
        sample_lengths: tokens of each sample, T in sum; None for a single sample.
        kwargs: what other implementations take.

    Returns:
        (1, T, heads, width), and None in place of attention weights.

    Raises:
        ValueError: several rows, or keys from a cache: this is for training on flat batches.
    """
    if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise ValueError(
            f"{PACKED_SDPA} takes one sequence and no cache, got queries {tuple(query.shape)} and keys "
            f"{tuple(key.shape)}; load the model with attn_implementation='sdpa' for anything but flat training"
        )
    lengths = sample_lengths or [query.shape[2]]
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and not query.is_cuda:
        # torch documents `enable_gqa` for CUDA alone. Repeated key heads take as long on a CPU (torch 2.13, one core).
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    # Causal by `is_causal` and not by a mask: torch's flash attention takes no mask on a GPU.
    queries, keys, values = (torch.split(one, lengths, 2) for one in (query, key, value))
    pieces = [
        scaled_dot_product_attention(
            *sample, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=groups > 1 and query.is_cuda
        )
        for sample in zip(queries, keys, values, strict=True)
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
