"""How many tokens a sample takes in training: text, answer, chat turns, and the squares of its image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dyneval.records import InstructSample
from dyneval.tokens import IMAGE

TURNS = 10
"""Tokens of the chat template around a human turn and an answer."""
_SQUARE = 32


class SampleTooLongError(ValueError):
    """A sample would be cut off in training; the message names it and its length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLimit:
    """Longest sample that is kept, counted as the training does.

    Attributes:
        tokenizer: tokenizer.json of the student, or the checkpoint folder that holds it.
        tokens: most tokens a sample may have; `model_max_length` of the training, 8192 as published.
        max_pixels: pixel budget of an image in training, 50176 as published: 49 tokens.
    """

    tokenizer: Path
    tokens: int = 8192
    max_pixels: int = 50176

    def counter(self) -> Callable[[InstructSample, int, int], int]:
        """Return a function of a sample and its image's width and height to its number of tokens.

        It raises SampleTooLongError when there are more than `tokens`.
        """
        from tokenizers import Tokenizer

        file = self.tokenizer / "tokenizer.json" if self.tokenizer.is_dir() else self.tokenizer
        tokenizer = Tokenizer.from_file(str(file))

        def count(sample: InstructSample, width: int, height: int) -> int:
            texts = [turn["value"] for turn in sample.conversations]
            total = TURNS + sum(len(one.ids) for one in tokenizer.encode_batch_fast(texts))
            if sample.image is not None and texts[0].startswith(IMAGE):
                total += image_tokens(width, height, self.max_pixels)
            if total > self.tokens:
                raise SampleTooLongError(f"{sample.id}: {total} tokens; at most {self.tokens} fit")
            return total

        return count


def image_tokens(width: int, height: int, max_pixels: int) -> int:
    """Tokens of an image that is scaled down to `max_pixels`: one a square of 32x32 pixels, and its two ends."""
    scale = min(1.0, (max_pixels / (width * height)) ** 0.5)
    columns, rows = (max(1, round(side * scale / _SQUARE)) for side in (width, height))
    return columns * rows + 2
