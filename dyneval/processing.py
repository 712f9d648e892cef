"""Turn conversations and images into model inputs. Training and scoring both do it here, so they cannot differ.

Text from outside is encoded by a tokenizer without added tokens, so `<|im_end|>` or `<|IQA|>` inside a prompt is
ordinary text. Turn marks, image placeholders and the task token are put in as ids. That also gives the label mask: it
is built from the same turn boundaries, never searched for. The published code searches for the token "assistant", and
so makes a training target of a user's line that begins with that word. torchvision is not needed.

Ids, labels, positions and grids equal those of the published training code on everything that its data builder makes
(tests/qwenvl/test_published.py). docs/reference/annotation-format.md says where they differ on purpose.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from dyneval.checkpoints import may_be_on_hub, reading, write_for_every_reader
from dyneval.conventions import FILE as CONVENTIONS
from dyneval.conventions import Conventions, read_conventions, write_conventions
from dyneval.errors import CheckpointError, ImageError, SettingError
from dyneval.tokens import RELATED_WORDS, TASK_TOKEN_IDS, split_human_turn

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

logger = logging.getLogger(__name__)

IGNORE = -100
"""Label of a token that is not a target; torch's cross entropy skips it."""
# Values of mm_token_type_ids, by which `get_rope_index` of transformers finds the images.
TEXT_TOKEN, IMAGE_TOKEN = 0, 1
CELL = 32
"""Side of the image square behind one visual token of Qwen3-VL, in pixels: a patch of 16, merged 2x2."""
_MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
# Files of a Qwen3-VL that neither tokenizer nor image processor saves. DynEval does not use them, but other programs
# that open the checkpoint do.
_CARRIED_FILES = ("video_preprocessor_config.json", "chat_template.json")


class PixelLimits(NamedTuple):
    """Smallest and largest area of an image, `0 < min_pixels <= max_pixels`; other images are resized."""

    min_pixels: int
    max_pixels: int


TRAINING_LIMITS = PixelLimits(784, 50_176)
"""The limits of the published checkpoints' training: up to 49 visual tokens an image, unless it is very narrow."""


def grid(width: int, height: int, limits: PixelLimits, cell: int = CELL) -> tuple[int, int]:
    """Columns and rows of visual tokens that an image is resized to, each at least 1.

    This is the rule of transformers and vLLM: both sides are rounded to cells. Only where the area of these cells is
    outside `limits`, the image is scaled from its own area to the limit and rounded down or, when it is enlarged, up.
    No side becomes shorter than a cell. So an image that is enlarged, or one that is narrow, may exceed
    `limits.max_pixels`: with 50,176 pixels, 20x4000 becomes 98 cells where 49 is usual.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        limits: smallest and largest area, in pixels.
        cell: side of the square behind one visual token, in pixels.

    Raises:
        ImageError: one side is over 200 times the other.
    """
    if max(width, height) > 200 * min(width, height):
        raise ImageError(f"an image of {width}x{height} pixels has an aspect ratio over 200: it cannot be used")
    sides = (width, height)
    # A side under half a cell rounds to 0: such an image is enlarged, since its area is then under any limit.
    columns, rows = (round(side / cell) for side in sides)
    if columns * rows * cell**2 > limits.max_pixels:
        scale = math.sqrt(width * height / limits.max_pixels)
        columns, rows = (max(1, math.floor(side / scale / cell)) for side in sides)
    elif columns * rows * cell**2 < limits.min_pixels:
        scale = math.sqrt(limits.min_pixels / (width * height))
        columns, rows = (math.ceil(side * scale / cell) for side in sides)
    return columns, rows


class Turn(NamedTuple):
    """One turn of a conversation; the `text` of a user turn begins with as many `<image>` as it has `images`."""

    role: Literal["system", "user", "assistant"]
    text: str
    images: int = 0


@dataclass(slots=True)
class Encoded:
    """One conversation as the model reads it; T tokens, P image patches, N images."""

    input_ids: list[int]
    """T token ids."""
    labels: list[int]
    """T targets: the token id inside an assistant's answer, at its `<|im_end|>` and the line feed behind; else -100."""
    mm_token_type_ids: list[int]
    """T token types for `get_rope_index`: 1 at an image token, else 0."""
    pixel_values: torch.Tensor | None
    """(P, 1536) normalised patches, or None without images."""
    image_grid_thw: torch.Tensor | None
    """(N, 3) patches in time, height and width, or None without images."""

    def model_inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of `model(...)` and `model.generate(...)` for a batch of this one conversation.

        Returns:
            On the CPU: `input_ids`, `attention_mask` (all 1) and `mm_token_type_ids`, (1, T) each; where there are
            images also `pixel_values` and `image_grid_thw`, as they are here.
        """
        import torch

        inputs = {
            "input_ids": torch.tensor([self.input_ids]),
            "attention_mask": torch.ones(1, len(self.input_ids), dtype=torch.long),
            "mm_token_type_ids": torch.tensor([self.mm_token_type_ids], dtype=torch.int),
        }
        if self.pixel_values is not None and self.image_grid_thw is not None:
            inputs |= {"pixel_values": self.pixel_values, "image_grid_thw": self.image_grid_thw}
        return inputs


class TaskTokenError(CheckpointError):
    """A tokenizer has other task tokens than DynEval checkpoints, or cannot be given theirs."""


def register_task_tokens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Add the three task tokens as special tokens beside the existing ones.

    Returns:
        True when they were new to the tokenizer, False when it knew them.

    Raises:
        TaskTokenError: it knows only some of them, or gives them other ids than DynEval checkpoints use; unchanged in
            the first case.
    """
    vocabulary = tokenizer.get_vocab()
    known = {token: vocabulary[token] for token in TASK_TOKEN_IDS if token in vocabulary}
    if known and known != TASK_TOKEN_IDS:
        raise TaskTokenError(
            f"the tokenizer knows the task tokens as {known}, expected {TASK_TOKEN_IDS} or none of them: its files may "
            "be those of another base or of another training; take the tokenizer of the model that this one was made "
            "from"
        )
    if not known:
        # Without the last argument, transformers 5 would forget <|im_start|> and its like as special tokens.
        tokenizer.add_special_tokens({"extra_special_tokens": list(TASK_TOKEN_IDS)}, replace_extra_special_tokens=False)
        found = {token: tokenizer.convert_tokens_to_ids(token) for token in TASK_TOKEN_IDS}
        if found != TASK_TOKEN_IDS:
            raise TaskTokenError(
                f"the task tokens got the ids {found}, expected {TASK_TOKEN_IDS}: the tokenizer of a Qwen3-VL model "
                f"has 151,669 tokens before they are added, this one had {len(tokenizer) - len(found)}"
            )
    return not known


def without_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The same byte-pair encoding without special tokens: every string is encoded as ordinary text."""
    plain = type(tokenizer)(tokenizer.model)
    plain.normalizer = tokenizer.normalizer
    plain.pre_tokenizer = tokenizer.pre_tokenizer
    return plain


def start_task_rows(table: torch.Tensor, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set the rows of the task tokens in an embedding (rows, width), in place, to the means of related words' rows."""
    for token, words in RELATED_WORDS.items():
        ids = tokenizer(words, add_special_tokens=False)["input_ids"]
        table[TASK_TOKEN_IDS[token]] = table[ids].float().mean(0).to(table.dtype)


class Processor:
    """Turns conversations and images into model inputs, the same way in training and in scoring."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Qwen2VLImageProcessorPil,
        carried_files: dict[str, bytes] | None = None,
        conventions: Conventions = Conventions(),  # noqa: B008 (a tuple)
    ) -> None:
        """Register the task tokens with `tokenizer`; `carried_files` are saved again as they are, by name.

        Raises:
            TaskTokenError: see `register_task_tokens`.
            CheckpointError: the tokenizer is not one of Qwen3-VL.
        """
        self.added_task_tokens = register_task_tokens(tokenizer)
        """True when the tokenizer did not know the task tokens: the model has not learned them yet."""
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.conventions = conventions
        """The wording, reply form and pixel limits of the student's training, as far as its checkpoint names them."""
        self._carried_files = carried_files or {}
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise CheckpointError(f"{type(tokenizer).__name__} has no tokenizer.json; a Qwen3-VL tokenizer does")
        self._plain = without_added_tokens(backend)
        vocabulary = tokenizer.get_vocab()
        if missing := [mark for mark in _MARKS if mark not in vocabulary]:
            needed = "DynEval needs the one of a Qwen3-VL model"
            raise CheckpointError(f"the tokenizer has no {', '.join(missing)}; {needed}")
        self._start, self._end, self._vision_start, self._vision_end, self._image = (vocabulary[one] for one in _MARKS)

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        subfolder: str | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        commit: str | None = None,
    ) -> Self:
        """Load tokenizer and image processor of a checkpoint folder or a Hugging Face repository.

        Args:
            path_or_id: checkpoint folder or repository id.
            subfolder: folder of the checkpoint inside it.
            min_pixels: smallest image area; default: the checkpoint's.
            max_pixels: largest image area; default: the checkpoint's.
            commit: of the repository; default: its newest.

        Raises:
            TaskTokenError: see `register_task_tokens`.
            CheckpointError: no Qwen3-VL tokenizer and image processor are found there, or its files disagree about the
                pixel limits that it was trained with.
            SettingError: the pixel limits contradict each other.
        """
        processor = cls._read(path_or_id, subfolder, commit)
        processor.set_pixel_limits(min_pixels, max_pixels)
        processor._compare_limits(path_or_id, chosen=bool(min_pixels or max_pixels))
        return processor

    @classmethod
    def for_training(cls, path_or_id: str | Path, min_pixels: int | None = None, max_pixels: int | None = None) -> Self:
        """As `from_pretrained`, for a checkpoint that is to be trained further.

        A limit that is not given is the one that the checkpoint was trained with before. A Qwen3-VL names none, since
        it was trained with images of all sizes: then it is that of `TRAINING_LIMITS`.
        """
        processor = cls._read(path_or_id, None, None)
        known = processor.conventions
        low, high = min_pixels or known.min_pixels, max_pixels or known.max_pixels or TRAINING_LIMITS.max_pixels
        processor.set_pixel_limits(low or min(TRAINING_LIMITS.min_pixels, high), high)
        processor._compare_limits(path_or_id, chosen=bool(min_pixels or max_pixels))
        return processor

    @classmethod
    def _read(cls, path_or_id: str | Path, subfolder: str | None, commit: str | None) -> Self:
        from transformers import AutoTokenizer
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        source, folder = str(path_or_id), subfolder or ""
        place: dict[str, Any] = {"subfolder": folder} | ({"revision": commit} if commit else {})
        if not Path(source, folder).is_dir() and not may_be_on_hub(source):
            raise CheckpointError(f"{Path(source, folder)}: no such checkpoint folder")
        with reading(f"{path_or_id}: no tokenizer and image processor of a Qwen3-VL model"):
            # A checkpoint is input from outside: code that comes with it is never run.
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **place)
            images = Qwen2VLImageProcessorPil.from_pretrained(source, **place)
            PixelLimits(*(int(images.size[edge]) for edge in ("shortest_edge", "longest_edge")))
        carried = {name: _optional_file(source, name, place) for name in _CARRIED_FILES}
        present = {name: content for name, content in carried.items() if content is not None}
        try:
            conventions = read_conventions(_optional_file(source, CONVENTIONS, place))
            return cls(tokenizer, images, present, conventions)
        except CheckpointError as error:
            raise type(error)(f"{Path(source, folder)}: {error}") from error

    def limits_differ(self) -> str | None:
        """A message where the student was trained with other pixel limits than those in use; else None."""
        low, high = self.conventions.min_pixels or self.min_pixels, self.conventions.max_pixels or self.max_pixels
        if (low, high) == self.limits:
            return None
        return (
            f"it was trained with images of {low:,} to {high:,} pixels, and would be shown {self.min_pixels:,} to "
            f"{self.max_pixels:,}"
        )

    def _compare_limits(self, checkpoint: str | Path, chosen: bool) -> None:
        """Refuse limits that the student was not trained with; where somebody chose them, only warn."""
        differ = self.limits_differ()
        if differ and not chosen:
            raise CheckpointError(
                f"{checkpoint}: {differ}: {CONVENTIONS} and preprocessor_config.json disagree; copy both from the "
                "trained checkpoint, or choose the limits yourself"
            )
        if differ:
            logger.warning("%s: %s; a student judges well only what it was trained with", checkpoint, differ)

    @property
    def cell(self) -> int:
        """Side of the image square behind one visual token, in pixels (32 for Qwen3-VL)."""
        return int(self.image_processor.patch_size * self.image_processor.merge_size)

    @property
    def limits(self) -> PixelLimits:
        """Limits of the image area in use."""
        return PixelLimits(self.min_pixels, self.max_pixels)

    @property
    def min_pixels(self) -> int:
        """Smallest image area in pixels; smaller images are enlarged."""
        return int(self.image_processor.size["shortest_edge"])

    @property
    def max_pixels(self) -> int:
        """Largest image area in pixels; larger images are reduced."""
        return int(self.image_processor.size["longest_edge"])

    def set_pixel_limits(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Change the limits of the image area as they are, unrounded; None keeps one.

        Raises:
            SettingError: a limit is not positive, or `min_pixels` is over `max_pixels`.
        """
        low, high = self.limits
        if max_pixels is not None:
            high = max_pixels
        # A small maximum that is given alone means small images; it does not contradict the minimum of the checkpoint.
        low = min(low, high) if min_pixels is None else min_pixels
        if not 0 < low <= high:
            raise SettingError(f"min_pixels {low} and max_pixels {high} leave no image size: expected 0 < min <= max")
        self.image_processor.size = {"shortest_edge": low, "longest_edge": high}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write all that a checkpoint needs besides weights and configuration, the pixel limits in use included.

        Save the model to the folder first: this method completes its configuration, see `dyneval.checkpoints`.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self._carried_files.items():
            (folder / name).write_bytes(content)
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)
        if any(self.conventions):
            write_conventions(folder, self.conventions)
        write_for_every_reader(folder)

    def encode(
        self, turns: Sequence[Turn], images: Sequence[Image.Image], add_generation_prompt: bool = False
    ) -> Encoded:
        """Encode a conversation; equals Qwen3-VL's chat template on text that holds no added token.

        Args:
            turns: the conversation; the images of its user turns are taken from `images` in order.
            images: as many as the turns announce together.
            add_generation_prompt: end with the start of an assistant's turn.

        Raises:
            ValueError: the number of images does not match.
            ImageError: an image is over 200 times longer than wide.
        """
        pixels = self.image_processor(images=list(images), return_tensors="pt") if images else {}
        patches = pixels.get("image_grid_thw")
        # The vision encoder merges 2x2 patches into one visual token.
        counts = [] if patches is None else (patches.prod(-1) // self.image_processor.merge_size**2).tolist()
        ids, labels = self.layout(turns, counts, add_generation_prompt)
        types = [IMAGE_TOKEN if token == self._image else TEXT_TOKEN for token in ids]
        return Encoded(ids, labels, types, pixels.get("pixel_values"), patches)

    def layout(
        self, turns: Sequence[Turn], visual_tokens: Sequence[int], add_generation_prompt: bool = False
    ) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation, without any pixels.

        Args:
            turns: the conversation.
            visual_tokens: how many tokens each of its images takes, in order.
            add_generation_prompt: end with the start of an assistant's turn.

        Returns:
            Two lists of the same length; a label is a token id of an assistant's answer, or `IGNORE`.

        Raises:
            ValueError: `visual_tokens` and the turns announce different numbers of images.
        """
        announced = sum(turn.images for turn in turns)
        if announced != len(visual_tokens):
            raise ValueError(f"the conversation has {announced} image placeholder(s) but {len(visual_tokens)} image(s)")
        counts = iter(visual_tokens)
        ids: list[int] = []
        labels: list[int] = []
        for turn in turns:
            context, answer = self._turn(turn, [next(counts) for _ in range(turn.images)])
            # The published checkpoints learned the line feed that closes a turn with the answer, so it is learned here.
            closed = [*answer, *self._text("\n")]
            ids += [self._start, *context, *closed]
            hidden = [IGNORE] * (1 + len(context))
            labels += hidden + (closed if turn.role == "assistant" else [IGNORE] * len(closed))
        if add_generation_prompt:
            prompt = [self._start, *self._text("assistant\n")]
            ids += prompt
            labels += [IGNORE] * len(prompt)
        return ids, labels

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def visual_tokens(self, width: int, height: int) -> int:
        """Number of tokens that an image of `width` x `height` pixels takes between its vision marks.

        Raises:
            ImageError: one side is over 200 times the other.
        """
        columns, rows = grid(width, height, self.limits, self.cell)
        return columns * rows

    def _turn(self, turn: Turn, visual_tokens: list[int]) -> tuple[list[int], list[int]]:
        """Ids after `<|im_start|>` in two parts: those that are given, and those that an assistant would write."""
        if turn.role == "assistant":
            # Encoded apart from the role, as at inference: together, a newline at the beginning of the answer would
            # merge with that of the role into another token.
            return self._text("assistant\n"), [*self._text(turn.text), self._end]
        if turn.role == "system":
            return self._text(f"system\n{turn.text}"), [self._end]
        # Images, then the task token, then the text, with nothing between them, as the published training code has it.
        human = split_human_turn(turn.text, turn.images)
        marks = [
            token for count in visual_tokens for token in (self._vision_start, *[self._image] * count, self._vision_end)
        ]
        if human.task_token:
            marks.append(TASK_TOKEN_IDS[human.task_token])
        if not marks:
            return self._text(f"user\n{human.text}"), [self._end]
        return [*self._text("user\n"), *marks, *self._text(human.text)], [self._end]

    def _text(self, text: str) -> list[int]:
        return list(self._plain.encode(text, add_special_tokens=False).ids)


def _optional_file(path_or_id: str, name: str, place: dict[str, Any]) -> bytes | None:
    from transformers.utils.hub import cached_file

    # Private arguments of transformers: without them a file that is missing raises, and so does a machine offline.
    found = cached_file(
        path_or_id,
        name,
        **place,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found).read_bytes() if found else None
