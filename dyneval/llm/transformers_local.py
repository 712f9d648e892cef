"""A teacher whose weights are loaded in this process with transformers: decoded in batches, held to JSON Schemas.

Requests come one by one; `BatchingEngine` collects them and passes them on in batches, in a thread. `SchemaLogits`
masks, for each row of a batch, the tokens that its schema does not allow; without it a reply might not be JSON at all.
The engine is meant for a few hundred pairs on one machine. A vLLM server answers many times as fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import llguidance
import llguidance.numpy
import numpy as np
import torch
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList

from dyneval.errors import CheckpointError, ImageError
from dyneval.files.images import load_image
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest, Refused
from dyneval.llm.registry import TransformersOptions
from dyneval.processing import Encoded, Processor, Turn, grid
from dyneval.tokens import IMAGE
from dyneval.work.batches import TooLarge, in_halves

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

Placed = tuple[int, Encoded]
"""A request's place in its batch, and the model's inputs for it."""

# Inputs with a token axis, and what they are padded with on the left; None: the end token.
_PADDED = {"input_ids": None, "attention_mask": 0, "mm_token_type_ids": 0}
# How long a batch that is not full waits for more requests.
_GATHER_SECONDS = 0.02
# If whitespace were free, a model could write blanks up to the limit.
_JSON_FORM: Any = {"whitespace_flexible": False}


class BatchingEngine(ABC):
    """Base of engines that answer a batch at a time: collects requests, and returns each reply to its caller."""

    name: str
    model: str

    def __init__(self, batch_size: int) -> None:
        """`batch_size`: the most requests of one batch."""
        self.batch_size = batch_size
        self._waiting: asyncio.Queue[tuple[ChatRequest, asyncio.Future[ChatReply]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    @abstractmethod
    def answer(self, requests: Sequence[ChatRequest]) -> list[ChatReply | Exception]:
        """Answer a batch, in order; an exception in the list is raised to the caller of its request alone."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request, together with others that wait. Raises what `answer` raised, or returned for it."""
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        future: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((request, future))
        return await future

    async def close(self) -> None:
        """Stop; requests that wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            with contextlib.suppress(TimeoutError):
                while len(batch) < self.batch_size:
                    batch.append(await asyncio.wait_for(self._waiting.get(), _GATHER_SECONDS))
            batch = [item for item in batch if not item[1].done()]  # some may have been cancelled meanwhile
            try:
                replies = await asyncio.to_thread(self.answer, [request for request, _ in batch]) if batch else []
            except asyncio.CancelledError:
                for _, future in batch:
                    future.cancel()
                raise
            except Exception as error:  # whatever stops a batch is raised to the callers of all its requests
                replies = [error] * len(batch)
            for (_, future), reply in zip(batch, replies, strict=True):
                if future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)


class TransformersEngine(BatchingEngine):
    """A teacher whose weights are loaded in this process."""

    name = "transformers"

    def __init__(self, model: str, options: TransformersOptions) -> None:
        """Load `model`, a checkpoint folder or Hugging Face repository of a Qwen3-VL model.

        Raises:
            CheckpointError: there is no such model, or its tokenizer is not one of Qwen3-VL.
        """
        super().__init__(options.batch_size)
        self.model = model
        place = options.device or ("auto" if torch.cuda.is_available() else "cpu")
        self.processor = Processor.from_pretrained(model, max_pixels=options.max_pixels)
        try:
            self.network: Any = AutoModelForImageTextToText.from_pretrained(
                model, dtype=options.dtype, device_map=place
            )
        except OSError as error:
            raise CheckpointError(f"{model}: the model cannot be loaded ({error})") from error
        self.end_token: int = self.processor.tokenizer.get_vocab()["<|im_end|>"]
        text_config = self.network.config.get_text_config()
        self.window: int = text_config.max_position_embeddings
        width = int(text_config.vocab_size)
        self.grammars = Grammars(self.processor.tokenizer, width, self.end_token)

    def answer(self, requests: Sequence[ChatRequest]) -> list[ChatReply | Exception]:
        """Answer a batch; requests with the same temperature and seed are decoded together."""
        # One generator samples for all rows of a batch, so a batch has one seed and one temperature.
        replies: list[ChatReply | Exception] = [ChatError("not answered")] * len(requests)
        groups: dict[tuple[float, int], list[Placed]] = {}
        for place, request in enumerate(requests):
            try:
                encoded = self._encode(request)
            except (ImageError, Refused) as error:
                replies[place] = error
            else:
                groups.setdefault((request.temperature, request.seed), []).append((place, encoded))
        for (temperature, seed), members in groups.items():
            generate = partial(self._generate, requests, temperature=temperature, seed=seed)
            for made in in_halves(generate, members, self._take_fewer):
                if isinstance(made, TooLarge):
                    reason = f"the memory is too small for this request ({made.reason})"
                    replies[made.item[0]] = ChatError(reason)
                else:
                    place, replies[place] = made
        return replies

    def _take_fewer(self, requests: int) -> None:
        """Halve the batches after one of `requests` requests did not fit into memory."""
        self.batch_size = min(self.batch_size, requests // 2)
        logger.warning("out of memory with %d requests at a time; going on with %d", requests, self.batch_size)

    def _encode(self, request: ChatRequest) -> Encoded:
        """The model's inputs. Raises ImageError, and Refused where request and reply exceed the model's window."""
        turns = [Turn(one.role, IMAGE * len(one.images) + one.text, len(one.images)) for one in request.messages]
        images = []
        for path in (path for message in request.messages for path in message.images):
            images.append(image := load_image(path))
            try:  # first, since the image processor refuses such images with a ValueError that could mean anything
                grid(image.width, image.height, self.processor.limits, self.processor.cell)
            except ImageError as error:
                raise ImageError(f"{path}: {error}") from None
        encoded = self.processor.encode(turns, images, add_generation_prompt=True)
        if len(encoded.input_ids) + request.max_tokens > self.window:
            raise Refused(
                f"the request has {len(encoded.input_ids)} tokens and its reply up to {request.max_tokens}; the model "
                f"reads {self.window} in all"
            )
        return encoded

    def _generate(
        self, asked: Sequence[ChatRequest], members: Sequence[Placed], temperature: float, seed: int
    ) -> list[tuple[int, ChatReply | Exception]]:
        places, encoded = [place for place, _ in members], [one for _, one in members]
        requests = [asked[place] for place in places]
        # Token axes are padded on the left, where new tokens do not go; images follow one another.
        rows = [one.model_inputs() for one in encoded]
        length = max(row["input_ids"].shape[1] for row in rows)
        inputs = {}
        for name, filler in _PADDED.items():
            value = self.end_token if filler is None else filler
            padded = [torch.nn.functional.pad(row[name], (length - row[name].shape[1], 0), value=value) for row in rows]
            inputs[name] = torch.cat(padded)
        for name in ("pixel_values", "image_grid_thw"):
            if found := [row[name] for row in rows if name in row]:
                inputs[name] = torch.cat(found)
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
        return list(zip(places, map(self._reply, requests, encoded, output[:, length:].tolist()), strict=True))

    def _reply(self, request: ChatRequest, encoded: Encoded, tokens: list[int]) -> ChatReply:
        # The batch is decoded to the largest limit of its requests, so a row may be longer than its own.
        ends = self.end_token in tokens[: request.max_tokens]
        kept = tokens[: tokens.index(self.end_token)] if ends else tokens[: request.max_tokens]
        return ChatReply(
            text=self.processor.decode(kept),
            finish_reason="stop" if ends else "length",
            prompt_tokens=len(encoded.input_ids),
            completion_tokens=len(kept),
        )


class Grammars:
    """Compiles JSON Schemas for one tokenizer, each schema once; making this object takes about a second."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int, end_token: int) -> None:
        """`vocabulary` is the width of the model's logits, which may exceed the number of tokens."""
        backend = tokenizer.backend_tokenizer.to_str()
        self.tokenizer = llguidance.LLTokenizer(backend, n_vocab=vocabulary, eos_token=end_token)
        self.end_token = end_token
        self.executor = llguidance.LLExecutor()
        self._compiled: dict[str, llguidance.LLMatcher] = {}

    def matcher(self, schema: dict[str, Any]) -> llguidance.LLMatcher:
        """Return a new matcher for `schema`. Raises ValueError when llguidance cannot use the schema."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._compiled:
            source = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_JSON_FORM)
            matcher = llguidance.LLMatcher(self.tokenizer, source, log_level=0)
            if matcher.is_error():
                raise ValueError(f"the grammar engine refuses the schema: {matcher.get_error()}")
            self._compiled[key] = matcher
        return self._compiled[key].deep_copy()


class SchemaLogits(LogitsProcessor):
    """Masks the tokens that each row's schema does not allow next; rows without a schema are left as they are."""

    def __init__(self, grammars: Grammars, schemas: Sequence[dict[str, Any] | None], prompt_length: int) -> None:
        """One schema (or None) for each row; the first `prompt_length` tokens of a row are not part of the reply."""
        self.grammars = grammars
        self.matchers = [None if schema is None else grammars.matcher(schema) for schema in schemas]
        self.seen = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Take the newest tokens of `input_ids` (rows, length) and mask `scores` (rows, vocabulary).

        Returns:
            The scores, minus infinity where a token is not allowed; of a row whose JSON is complete only the end token
            is left.
        """
        for token_ids, matcher in zip(input_ids[:, self.seen :].tolist(), self.matchers, strict=True):
            if matcher is not None and not matcher.is_stopped():
                matcher.consume_tokens(token_ids)
        self.seen = input_ids.shape[1]
        running = [(m, row) for row, m in enumerate(self.matchers) if m is not None and not m.is_stopped()]
        width = self.grammars.tokenizer.vocab_size
        bits = llguidance.numpy.allocate_token_bitmask(len(self.matchers), width)  # all allowed
        if running:
            llguidance.numpy.fill_next_token_bitmask_par(self.grammars.executor, running, bits)
        allowed = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, : scores.shape[1]].astype(bool)
        for row, matcher in enumerate(self.matchers):
            if matcher is not None and matcher.is_stopped():  # the JSON is complete: only the end may follow
                allowed[row] = False
                allowed[row, self.grammars.end_token] = True
        return scores.masked_fill(torch.from_numpy(~allowed).to(scores.device), float("-inf"))  # type: ignore[return-value]
