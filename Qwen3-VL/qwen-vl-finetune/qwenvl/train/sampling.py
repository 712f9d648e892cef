"""Draws the samples in an order in which those of a step are about equally long (`group_by_length`).

A step takes as long as its longest sequence on any rank; with steps of like length, ranks wait less for each other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroups(Sampler[int]):
    """A new random order each epoch, the same on every rank and in a run that goes on.

    transformers' own sampler draws from the generator of its process. The state of that one differs between ranks, and
    after a restart it is not the state at the epoch's start, so samples would be left out or seen twice.
    """

    def __init__(self, lengths: list[int], samples_a_step: int, seed: int) -> None:
        """Take the tokens of each item, the number of items that make a step, and the seed of the order."""
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
