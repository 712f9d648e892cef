r"""A student behind an OpenAI-compatible server.

    vllm serve output/dyneval_4b_stage2_iqa --limit-mm-per-prompt.image 1 --limit-mm-per-prompt.video 0 \
      --structured-outputs-config '{"backend": "guidance", "disable_any_whitespace": true}'

A server puts messages into its chat template and reads special tokens wherever they stand. That suits the task tokens,
which are special tokens of a student, and gives exactly the token ids of training. But it would also read `<|im_end|>`
inside a prompt as the end of the turn; such a pair is refused, since no escape says "as text" over this interface. So
each turn is put through the checkpoint's own template here as well, and asked only if the ids are those of
`dyneval.processing`. Completions from token ids (/v1/completions) take no images, so they are no way around it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from dyneval import tokens
from dyneval.errors import CheckpointError, SettingError
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest, Message
from dyneval.llm.openai_server import OpenAIEngine
from dyneval.processing import Turn
from dyneval.scorer.engines.base import Ask
from dyneval.scorer.engines.registry import Checkpoint, StudentServerOptions
from dyneval.scorer.engines.served import ServedStudent, guided, top_logprobs


class OpenAIStudent(ServedStudent):
    """A student that a server has; tokenizer, template and pixel limits are those of the same checkpoint here."""

    name = "openai"
    dtype = "server"

    def __init__(self, checkpoint: Checkpoint, options: StudentServerOptions) -> None:
        """Describe the servers; nothing is sent yet. Of the checkpoint only the processor is loaded.

        Raises:
            CheckpointError: there is no DynEval student, or its chat template does not give the token ids of training.
            SettingError: an address is none, or a setting is not for this side to choose.
        """
        if checkpoint.dtype is not None:
            raise SettingError("--dtype is the server's to choose with --engine openai")
        super().__init__(checkpoint.processor())  # which weights a server has it does not say: no revision
        model = options.served_model or checkpoint.name
        if not self.is_exact(tokens.t2ia_turn("a cat"), 0) or not self.is_exact(tokens.iqa_turn(), 1):
            raise CheckpointError(
                f"{model}: the chat template of this checkpoint does not give the token ids of training, so a server "
                "cannot score with it; use --engine vllm or transformers"
            )
        self._chat = OpenAIEngine(model, options)
        self.close_with(self._chat.close)

    def read(self, images: Sequence[Image.Image]) -> list[str]:
        """The images as data URLs: lossless, made once for all three passes that see them."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(_data_url, images))

    def is_exact(self, turn: str, images: int) -> bool:
        """True when a server reads this human turn as the token ids of training."""
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": _text(turn, images)}]
        conversation: Any = [{"role": "user", "content": content}]
        template = self.processor.tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        ids = self.processor.tokenizer.encode(str(template), add_special_tokens=False)
        return ids == self.processor.layout([Turn("user", turn, images)], [1] * images, add_generation_prompt=True)[0]

    async def reply_to(self, ask: Ask, max_new_tokens: int) -> ChatReply:
        """Get one reply. Raises ChatError, or SchemaRefused."""
        images: tuple[str, ...] = (ask.image,) if ask.image else ()
        if not self.is_exact(ask.turn, len(images)):
            raise ChatError(
                "engine openai: a server would take a mark in this text, such as <|im_end|>, for its own; score the "
                "pair with --engine vllm or transformers"
            )
        message = Message(role="user", text=_text(ask.turn, len(images)), data_urls=images)
        return await self._chat.chat(
            ChatRequest(
                task=ask.kind,
                messages=(message,),
                schema=guided(ask.schema),
                max_tokens=max_new_tokens,
                top_logprobs=top_logprobs(ask),
            )
        )


def _text(turn: str, images: int) -> str:
    human = tokens.split_human_turn(turn, images)
    return (human.task_token or "") + human.text


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getbuffer()).decode('ascii')}"
