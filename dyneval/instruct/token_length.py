"""Counts the tokens that a sample takes in training: text, answer, chat template, and its image.

Training skips samples over `--model_max_length`. With `--tokenizer` the builder leaves them out and reports them
instead, so that nobody finds out in the middle of a run. The count must equal that of training to the token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dyneval.errors import CheckpointError, UserError
from dyneval.processing import TRAINING_LIMITS, PixelLimits, grid, without_added_tokens
from dyneval.records import InstructSample
from dyneval.tokens import split_human_turn

TURNS = 10
"""Tokens of the chat template: <|im_start|>, role, line feed, <|im_end|>, line feed, for each of the two turns."""


class SampleTooLongError(UserError, ValueError):
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
    max_pixels: int = TRAINING_LIMITS.max_pixels

    def counter(self) -> Callable[[InstructSample, int, int], int]:
        """Return a function of a sample and its image's width and height to its number of tokens.

        The function raises SampleTooLongError when there are more than `tokens`, and ValueError when one side of the
        image is over 200 times the other.

        Raises:
            CheckpointError: there is no tokenizer that can be read.
        """
        from tokenizers import Tokenizer

        file = self.tokenizer / "tokenizer.json" if self.tokenizer.is_dir() else self.tokenizer
        try:
            # As in training: "<|im_end|>" in a prompt is text and takes several tokens.
            tokenizer = without_added_tokens(Tokenizer.from_file(str(file)))
        except Exception as error:  # the library's own errors are plain exceptions
            raise CheckpointError(f"{file}: no tokenizer that can be read ({error})") from error
        # A user may choose a `max_pixels` below the usual smallest area; no size fits a minimum above the maximum.
        limits = PixelLimits(min(TRAINING_LIMITS.min_pixels, self.max_pixels), self.max_pixels)

        def count(sample: InstructSample, width: int, height: int) -> int:
            human, answer = (turn.value for turn in sample.conversations)
            turn = split_human_turn(human, int(sample.image is not None))
            texts = tokenizer.encode_batch_fast([turn.text, answer])
            total = TURNS + (turn.task_token is not None) + sum(len(one.ids) for one in texts)
            if turn.images:
                total += math.prod(grid(width, height, limits)) + 2  # and its two ends
            if total > self.tokens:
                raise SampleTooLongError(f"{sample.id}: {total} tokens; at most {self.tokens} fit")
            return total

        return count
