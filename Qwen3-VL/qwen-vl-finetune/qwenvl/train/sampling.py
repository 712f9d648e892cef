"""Order of the samples in which those of a step are about equally long."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroups(Sampler[int]):
    """Another random order each epoch, the same on every rank and in a run that goes on.

    transformers' own sampler draws from the generator of its process, whose state differs between ranks and is not that
    of the epoch's start after a restart.
    """

    def __init__(self, lengths: list[int], samples_a_step: int, seed: int) -> None:
        """Take the tokens of each item, how many items make a step, and the seed of the order."""
        self.lengths, self.samples_a_step, self.seed, self.epoch = lengths, samples_a_step, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is drawn next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        indices: list[int] = get_length_grouped_indices(self.lengths, self.samples_a_step, generator=generator)
        return iter(indices)
