"""A key-value cache whose rows have lengths of their own, so that a batch may move on by unequal numbers of tokens.

Row b holds its tokens at positions 0 .. length-1, without padding in front or holes between. New tokens are written
behind; what a shorter row wrote past its end is hidden by the mask and written over in the next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import Cache

_BLOCK = 256
"""Slots are added in blocks of this many."""


class RaggedCache(Cache):
    """Keys and values of all layers, each (rows, heads, slots, width)."""

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self.lengths = torch.zeros(rows, dtype=torch.long)
        """(rows,) tokens held, on the CPU."""
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._slots: torch.Tensor | None = None
        self._seen = 0

    def select(self, rows: Sequence[int]) -> Self:
        """A copy that holds `rows` of this one, in that order; a row may come more than once or not at all."""
        taken = type(self)(len(rows))
        index = torch.tensor(rows, dtype=torch.long)
        taken.lengths = self.lengths[index]
        longest = int(taken.lengths.max())
        taken._layers = [
            tuple(part[:, :, :longest].index_select(0, index.to(part.device)) for part in layer)  # type: ignore[misc]
            for layer in self._layers
        ]
        return taken

    def begin(self, width: int, device: torch.device) -> torch.Tensor:
        """Prepare a forward pass that feeds each row `width` tokens; returns its attention mask.

        Returns:
            (rows, 1, width, slots) booleans, True where a token may look: at itself and what its own row holds.
        """
        slots = self.lengths[:, None] + torch.arange(width)
        self._seen = int(slots.max()) + 1
        self._slots = slots.to(device)
        return torch.arange(self._seen, device=device)[None, None, None] <= self._slots[:, None, :, None]

    def end(self, counts: Sequence[int]) -> None:
        """Finish a forward pass: keep the first `counts[b]` tokens that row b was fed."""
        self.lengths = self.lengths + torch.tensor(counts)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, (rows, heads, width, head width); return what the mask covers."""
        if self._slots is None:
            raise RuntimeError("RaggedCache.begin must come before the forward pass")
        if layer_idx == len(self._layers):
            self._layers.append((key_states[:, :, :0], value_states[:, :, :0]))
        keys, values = (self._room(part) for part in self._layers[layer_idx])
        self._layers[layer_idx] = keys, values
        index = self._slots[:, None, :, None].expand_as(key_states)
        keys.scatter_(2, index, key_states)
        values.scatter_(2, index, value_states)
        return keys[:, :, : self._seen], values[:, :, : self._seen]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens in the longest row."""
        return int(self.lengths.max())

    def _room(self, part: torch.Tensor) -> torch.Tensor:
        missing = self._seen - part.shape[2]
        if missing <= 0:
            return part
        # Zeros, not uninitialised memory: a hidden NaN would still turn the attention's weighted sum into NaN.
        return torch.nn.functional.pad(part, (0, 0, 0, -(-missing // _BLOCK) * _BLOCK))
