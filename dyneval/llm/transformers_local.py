"""Chat with a Qwen3-VL teacher, dense or MoE, through transformers in this process, in batches, held to the schema.

For a few hundred pairs on one machine; at scale a vLLM server answers many times as fast.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dyneval.errors import CheckpointError, ImageError
from dyneval.files.images import load_image
from dyneval.llm.batching import BatchingEngine
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest
from dyneval.llm.pictures import MAX_PIXELS
from dyneval.tokens import IMAGE
from dyneval.work.batches import in_halves

if TYPE_CHECKING:
    import torch

    from dyneval.processing import Encoded

    Placed = tuple[int, Encoded]
    """A request's place in its batch, and what the model gets of it."""

logger = logging.getLogger(__name__)

_PADDED = {"input_ids": None, "attention_mask": 0, "mm_token_type_ids": 0}
"""Inputs with a token axis and what they are filled up with on the left; None: the end token."""


class TransformersEngine(BatchingEngine):
    """A teacher whose weights are loaded here."""

    name = "transformers"

    def __init__(
        self,
        model: str,
        *,
        batch_size: int = 8,
        device: str | None = None,
        dtype: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Load the model.

        Args:
            model: checkpoint folder or Hugging Face repository of a Qwen3-VL model.
            batch_size: requests decoded together; fewer once memory has run out.
            device: torch device; None spreads the model over all GPUs, or takes the CPU where there is none.
            dtype: torch type of the weights; "auto": as they were saved.
            max_pixels: larger images are scaled down to this many pixels.

        Raises:
            ValueError: there is no such model.
        """
        import torch
        from transformers import AutoModelForImageTextToText

        from dyneval.llm.constrained import Grammars
        from dyneval.processing import Processor

        super().__init__(batch_size)
        self.model = model
        place = device or ("auto" if torch.cuda.is_available() else "cpu")
        self.processor = Processor.from_pretrained(model, max_pixels=max_pixels)
        try:
            self.network: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype, device_map=place)
        except OSError as error:
            raise CheckpointError(f"{model}: the model cannot be loaded ({error})") from error
        self.end_token: int = self.processor.tokenizer.get_vocab()["<|im_end|>"]
        width = int(self.network.config.get_text_config().vocab_size)
        self.grammars = Grammars(self.processor.tokenizer, width, self.end_token)

    def answer(self, requests: Sequence[ChatRequest]) -> list[ChatReply | Exception]:
        """Answer a batch; requests of one temperature and seed are decoded together."""
        replies: list[ChatReply | Exception] = [ChatError("not answered")] * len(requests)
        groups: dict[tuple[float, int], list[Placed]] = {}
        for place, request in enumerate(requests):
            try:
                groups.setdefault((request.temperature, request.seed), []).append((place, self._encode(request)))
            except ImageError as error:
                replies[place] = error
        for (temperature, seed), members in groups.items():
            generate = partial(self._generate, requests, temperature=temperature, seed=seed)
            for part, made in in_halves(generate, members, self._take_fewer):
                if isinstance(made, str):
                    replies[part[0][0]] = ChatError(f"the memory is too small for this request ({made})")
                    continue
                for (place, _), reply in zip(part, made, strict=True):
                    replies[place] = reply
        return replies

    def _take_fewer(self, requests: int) -> None:
        """Learn from a batch that did not fit."""
        self.batch_size = min(self.batch_size, requests // 2)
        logger.warning("out of memory with %d requests at a time; going on with %d", requests, self.batch_size)

    def _encode(self, request: ChatRequest) -> Encoded:
        from dyneval.processing import Turn

        turns = [Turn(one.role, IMAGE * len(one.images) + one.text, len(one.images)) for one in request.messages]
        images = [load_image(path) for message in request.messages for path in message.images]
        return self.processor.encode(turns, images, add_generation_prompt=True)

    def _generate(
        self, asked: Sequence[ChatRequest], members: Sequence[Placed], temperature: float, seed: int
    ) -> list[ChatReply]:
        import torch
        from transformers import LogitsProcessorList

        from dyneval.llm.constrained import SchemaLogits

        requests, encoded = [asked[place] for place, _ in members], [one for _, one in members]
        inputs = self._batch([one.model_inputs() for one in encoded])
        length = inputs["input_ids"].shape[1]
        held = SchemaLogits(self.grammars, [request.schema for request in requests], length)
        torch.manual_seed(seed)
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        with torch.inference_mode():
            output = self.network.generate(
                **{name: tensor.to(self.network.device) for name, tensor in inputs.items()},
                **sampling,
                max_new_tokens=max(request.max_tokens for request in requests),
                eos_token_id=self.end_token,
                pad_token_id=self.end_token,
                logits_processor=LogitsProcessorList([held]),
            )
        return list(map(self._reply, requests, encoded, output[:, length:].tolist()))

    def _batch(self, rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Put conversations together: token axes padded on the left, images one after another."""
        import torch

        length = max(row["input_ids"].shape[1] for row in rows)
        batch = {}
        for name, filler in _PADDED.items():
            value = self.end_token if filler is None else filler
            padded = [torch.nn.functional.pad(row[name], (length - row[name].shape[1], 0), value=value) for row in rows]
            batch[name] = torch.cat(padded)
        for name in ("pixel_values", "image_grid_thw"):
            if found := [row[name] for row in rows if name in row]:
                batch[name] = torch.cat(found)
        return batch

    def _reply(self, request: ChatRequest, encoded: Encoded, tokens: list[int]) -> ChatReply:
        ends = self.end_token in tokens[: request.max_tokens]
        kept = tokens[: tokens.index(self.end_token)] if ends else tokens[: request.max_tokens]
        return ChatReply(
            text=self.processor.decode(kept),
            finish_reason="stop" if ends else "length",
            prompt_tokens=len(encoded.input_ids),
            completion_tokens=len(kept),
        )
