"""The student in this process, with transformers: the reference that the other engines are compared with.

It reads each image once and decodes under grammars in batches (`dyneval.scorer.decoder`). A change here that alters a
token id or a position changes scores, which the tests of `transformers`' own `generate` and of the other engines show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dyneval import tokens
from dyneval.llm.chat import TokenChoice
from dyneval.processing import IMAGE_TOKEN, Encoded, Processor, Turn
from dyneval.scorer.decoder import Decoder, Prefix, ReplyRow
from dyneval.scorer.grammar import ReplyGrammar
from dyneval.scorer.loading import load_student
from dyneval.scorer.students.base import Ask, NoReply, Reply
from dyneval.scorer.students.registry import Checkpoint, LocalOptions

if TYPE_CHECKING:
    from PIL import Image
    from transformers import Qwen3VLForConditionalGeneration


class _CachedImage(NamedTuple):
    """An image that was read into the key-value cache."""

    prefix: Prefix
    """The cache of its batch."""
    row: int
    """Its row there."""
    length: int
    """Tokens of the conversation that were read, up to the end of the image."""
    visual_tokens: int
    """Those of the image among them."""


def load(checkpoint: Checkpoint, options: LocalOptions) -> TransformersStudent:
    """Load a student.

    Args:
        checkpoint: where it is.
        options: which device.

    Raises:
        CheckpointError: there is no such student, or it cannot be loaded here.
    """
    model, processor = load_student(
        checkpoint.path,
        checkpoint.subfolder,
        device=options.device,
        dtype=checkpoint.dtype,
        min_pixels=checkpoint.min_pixels,
        max_pixels=checkpoint.max_pixels,
        commit=checkpoint.commit,
    )
    return TransformersStudent(model, processor, checkpoint.revision())


class TransformersStudent:
    """A loaded model with its processor; see `Student` for what its attributes and methods are."""

    name = "transformers"

    def __init__(
        self, model: Qwen3VLForConditionalGeneration, processor: Processor, revision: str | None = None
    ) -> None:
        """Get ready.

        Args:
            model: on its device.
            processor: of the same checkpoint.
            revision: identity of the weights, as recorded with scores.
        """
        self.processor = processor
        self.revision = revision
        self.device = model.device
        self.dtype = str(model.dtype).removeprefix("torch.")
        self._grammar = ReplyGrammar(processor.tokenizer, model.lm_head.out_features)
        self._decoder = Decoder(model, self._grammar)

    def prepare(self, image: Image.Image) -> Encoded:
        """Turn an image into patches, behind the beginning of a conversation."""
        # Every turn with an image begins with it, so the beginning of this one is that of all three passes.
        return self.processor.encode([Turn("user", tokens.iqa_turn(), 1)], [image], True)

    def read(self, images: Sequence[Encoded]) -> list[_CachedImage]:
        """Read each image once, up to its end mark."""
        # The last image token, and the end mark behind it.
        lengths = [len(one.input_ids) - one.mm_token_type_ids[::-1].index(IMAGE_TOKEN) + 1 for one in images]
        prefix = self._decoder.read_images(images, lengths)
        visual = [one.mm_token_type_ids.count(IMAGE_TOKEN) for one in images]
        return [_CachedImage(prefix, row, *of_row) for row, of_row in enumerate(zip(lengths, visual, strict=True))]

    def answer(
        self, asks: Sequence[Ask[_CachedImage]], max_new_tokens: int
    ) -> Iterator[tuple[Ask[_CachedImage], Reply | NoReply]]:
        """Decode the replies under their grammars, behind the images that were read."""
        rows: dict[ReplyRow, Ask[_CachedImage]] = {}
        for ask in asks:
            # The questions of an evaluation are its pair's own, so its grammar is not kept; other schemas come again.
            rated = ask.kind == "evaluation"
            constraint = self._grammar.constraint(ask.schema, keep=not rated, verdicts=rated)
            visual = [ask.image.visual_tokens] if ask.image else []
            turn = Turn("user", ask.turn, len(visual))
            ids = self.processor.layout([turn], visual, add_generation_prompt=True)[0]
            read, prefix_row = (ask.image.length, ask.image.row) if ask.image else (0, 0)
            choices: list[TokenChoice] | None = [] if ask.for_choices else None
            rows[ReplyRow(ids[read:], constraint, prefix_row, choices=choices)] = ask
        prefix = asks[0].image.prefix if asks and asks[0].image else None
        for row in self._decoder.decode(list(rows), max_new_tokens, prefix):
            if row.failure:
                yield rows[row], NoReply(row.failure)
            else:
                yield rows[row], Reply(row.constraint.text, row.probabilities, row.choices or ())
