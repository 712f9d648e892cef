"""Makes batches: samples laid end to end as one sequence without padding, or side by side with padding.

Both give the same loss. A flattened sequence keeps samples apart by positions alone: row 0 of `position_ids` restarts
at 0 for every sample, from which transformers builds the attention boundaries of every implementation. If it did not
restart, a sample would attend to the answers of the one before it, and the loss would look better than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from dyneval.processing import IGNORE, IMAGE_TOKEN, TEXT_TOKEN, Encoded
from qwenvl.data.dataset import BadSample, Example

if TYPE_CHECKING:
    from dyneval.processing import Processor

RopeIndex = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""`get_rope_index` of the model: positions (3, 1, T) in time, height and width."""
Batch = dict[str, Any]


def dummy_example(processor: Processor) -> Example:
    """Return an image of one visual token with nothing to learn.

    A batch without images gets one, so that every rank runs the vision tower and its mergers in every step: under
    ZeRO-3 and DDP, ranks that skip them wait for each other forever. It has no targets, and its tokens see no other
    sample and are seen by none, so it adds exactly nothing to the loss.
    """
    marks: Any = processor.tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"])
    images = processor.image_processor
    patches = images.merge_size**2
    pixels = torch.zeros(patches, 3 * images.temporal_patch_size * images.patch_size**2)
    grid = torch.tensor([[1, images.merge_size, images.merge_size]])
    types = [TEXT_TOKEN, IMAGE_TOKEN, TEXT_TOKEN]
    return Example(Encoded(list(marks), [IGNORE] * len(marks), types, pixels, grid), 0)


@dataclass
class Collator:
    """Makes one batch of dataset items.

    `flatten` gives `input_ids`, `labels`, `tasks` of shape (1, T), `position_ids` (4, 1, T) and `sample_lengths`;
    otherwise (B, L), `attention_mask` (B, L) and `position_ids` (3, B, L). `counts` holds samples, tokens, targets and
    padding of the batch, `names` its samples, `bad` the problems of those that could not be read.

    Attributes:
        rope_index: computes positions.
        dummy: is added to a batch without images.
        pad_token_id: fills the ends of padded rows.
        flatten: lay samples end to end.
    """

    rope_index: RopeIndex
    dummy: Example
    pad_token_id: int
    flatten: bool = True

    def __call__(self, items: list[list[Example | BadSample]]) -> Batch:
        """Collate the samples of all items; an item is a list, since a packed item holds many samples."""
        flat = [sample for item in items for sample in item]
        examples = [sample for sample in flat if isinstance(sample, Example)]
        samples = len(examples)
        if not any(example.encoded.pixel_values is not None for example in examples):
            examples = [*examples, self.dummy]
        batch = self._flattened(examples) if self.flatten else self._padded(examples)
        # Images are not padded: the model takes the patches of all images in one row, and their grids beside it.
        pixels = [one.encoded.pixel_values for one in examples if one.encoded.pixel_values is not None]
        grids = [one.encoded.image_grid_thw for one in examples if one.encoded.image_grid_thw is not None]
        batch |= {"pixel_values": torch.cat(pixels), "image_grid_thw": torch.cat(grids)}
        # The dummy is counted as padding: it is no sample, and its tokens teach nothing.
        tokens = sum(len(example.encoded.input_ids) for example in examples[:samples])
        targets = int((batch["labels"] != IGNORE).sum())
        batch["counts"] = torch.tensor([samples, tokens, targets, batch["input_ids"].numel() - tokens])
        batch["names"] = [example.name for example in examples[:samples]]
        batch["bad"] = [sample.problem for sample in flat if isinstance(sample, BadSample)]
        return batch

    def _positions(self, encoded: Encoded) -> torch.Tensor:
        """Return the positions (3, T) of one sample in time, height and width."""
        ids = torch.tensor([encoded.input_ids])
        types = torch.tensor([encoded.mm_token_type_ids], dtype=torch.int)
        positions, _ = self.rope_index(ids, types, image_grid_thw=encoded.image_grid_thw)
        return positions[:, 0]

    def _flattened(self, examples: list[Example]) -> Batch:
        # Row 0 counts from 0 in each sample and marks where samples begin; attention rotates by rows 1 to 3.
        restarts = torch.cat([torch.arange(len(one.encoded.input_ids)) for one in examples])
        spatial = torch.cat([self._positions(one.encoded) for one in examples], dim=1)
        columns = {
            "input_ids": [token for one in examples for token in one.encoded.input_ids],
            "labels": [label for one in examples for label in one.encoded.labels],
            "tasks": [one.task for one in examples for _ in one.encoded.input_ids],
        }
        batch: Batch = {name: torch.tensor([values]) for name, values in columns.items()}
        # Lengths stay a Python list: as a tensor on the GPU, each layer that splits by them would wait for it.
        lengths = [len(one.encoded.input_ids) for one in examples]
        return batch | {"position_ids": torch.cat([restarts[None], spatial])[:, None], "sample_lengths": lengths}

    def _padded(self, examples: list[Example]) -> Batch:
        longest = max(len(one.encoded.input_ids) for one in examples)
        # On the right: attention is causal, so no token of a sample ever sees the padding behind it.
        batch: Batch = {
            "input_ids": torch.full((len(examples), longest), self.pad_token_id),
            "labels": torch.full((len(examples), longest), IGNORE),
            "tasks": torch.tensor([[one.task] * longest for one in examples]),
            "attention_mask": torch.zeros(len(examples), longest, dtype=torch.long),
            "position_ids": torch.zeros(3, len(examples), longest, dtype=torch.long),
        }
        for row, one in enumerate(examples):
            length = len(one.encoded.input_ids)
            batch["input_ids"][row, :length] = torch.tensor(one.encoded.input_ids)
            batch["labels"][row, :length] = torch.tensor(one.encoded.labels)
            batch["attention_mask"][row, :length] = 1
            batch["position_ids"][:, row, :length] = self._positions(one.encoded)
        return batch
