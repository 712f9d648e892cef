"""A key-value cache whose rows have lengths of their own, so that a batch may move on by unequal numbers of tokens.

The caches of transformers append the same number of tokens to every row. Here row b holds its tokens at positions 0 ..
length-1, without padding in front or holes between. New tokens are written behind; what a shorter row wrote past its
end is hidden by the mask and written over in the next step. A mask that is off by one lets a row see that, and its
scores change without any error; a test compares with `model.generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import Cache

# Growing copies keys and values of all layers, so it must not happen with every token.
_BLOCK = 256
"""Slots are added in blocks of this many."""


class RaggedCache(Cache):
    """Keys and values of all layers, each (rows, heads, slots, width).

    Attributes:
        lengths: (rows,) tokens held, on the CPU: reading them from a GPU would wait for its work in every step.
    """

    def __init__(self, rows: int) -> None:
        """Begin without tokens."""
        super().__init__(layers=[])
        self.lengths = torch.zeros(rows, dtype=torch.long)
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._slots: torch.Tensor | None = None
        """(rows, width) where the tokens of the present forward pass go."""
        self._seen = 0
        """Slots that the present forward pass looks at."""

    def select(self, rows: Sequence[int]) -> Self:
        """Copy some rows, in that order; a row may come more than once or not at all.

        Only as many slots are copied as the longest of them fills.
        """
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
        """Prepare a forward pass.

        Args:
            width: tokens that each row is fed, those past its end among them.
            device: of the model.

        Returns:
            (rows, 1, width, slots) booleans, True where a token may look: at itself and what its own row holds.
        """
        slots = self.lengths[:, None] + torch.arange(width)
        self._seen = int(slots.max()) + 1
        self._slots = slots.to(device)
        # A row's tokens stand in the order of their positions, so a token may look at every slot up to its own.
        return torch.arange(self._seen, device=device)[None, None, None] <= self._slots[:, None, :, None]

    def end(self, counts: Sequence[int]) -> None:
        """Finish a forward pass: keep the first `counts[b]` tokens that row b was fed."""
        self.lengths = self.lengths + torch.tensor(counts)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, and return all that the mask covers; transformers calls this.

        Args:
            key_states: (rows, heads, width, head width).
            value_states: the same.
            layer_idx: which layer; the first forward pass goes through them in order.
            args: not used.
            kwargs: not used.

        Returns:
            Keys and values, (rows, heads, slots, head width) each, with as many slots as the mask of `begin`.

        Raises:
            RuntimeError: `begin` was not called.
        """
        if self._slots is None:
            raise RuntimeError("RaggedCache.begin must come before the forward pass")
        if layer_idx == len(self._layers):
            self._layers.append((key_states[:, :, :0], value_states[:, :, :0]))
        keys, values = self._layers[layer_idx]
        missing = self._seen - keys.shape[2]
        if missing > 0:
            # Zeros, not uninitialised memory: a hidden NaN would still turn the attention's weighted sum into NaN.
            more = (0, 0, 0, -(-missing // _BLOCK) * _BLOCK)
            keys, values = torch.nn.functional.pad(keys, more), torch.nn.functional.pad(values, more)
            self._layers[layer_idx] = keys, values
        index = self._slots[:, None, :, None].expand_as(key_states)
        keys.scatter_(2, index, key_states)
        values.scatter_(2, index, value_states)
        return keys[:, :, : self._seen], values[:, :, : self._seen]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the tokens in the longest row; transformers asks for it."""
        return int(self.lengths.max())
