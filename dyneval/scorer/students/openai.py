r"""A student behind an OpenAI-compatible server.

    $ vllm serve output/dyneval_4b_stage2_iqa --limit-mm-per-prompt.image 1 --limit-mm-per-prompt.video 0 \
      --structured-outputs-config '{"backend": "guidance", "disable_any_whitespace": true}'

A server puts messages into its chat template and reads special tokens wherever they stand. That suits the task tokens,
which are special tokens of a student, and gives exactly the token ids of training. But it would also read `<|im_end|>`
inside a prompt as the end of the turn; such a pair is refused, since no escape says "as text" over this interface. So
each turn is put through the checkpoint's own template here as well, and asked only if the ids are those of
`dyneval.processing`. Completions from token ids (/v1/completions) take no images, so they are no way around it.

Some servers take `response_format` and `logprobs` and do nothing with them. So the first request of all asks for a
reply that a student writes only where its schema holds it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from dyneval import tokens
from dyneval.errors import CheckpointError, SettingError
from dyneval.files.images import png_bytes
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest, Message, UnfitServer, Unreachable
from dyneval.llm.openai_server import OpenAIEngine
from dyneval.processing import Turn
from dyneval.replies import ReplyLimits, evaluation_schema, form_of
from dyneval.scorer.students.base import Ask
from dyneval.scorer.students.registry import Checkpoint, StudentServerOptions
from dyneval.scorer.students.served import ServedStudent, guided, top_logprobs

_UNASKED = "Does the server hold a reply to its schema?"
"""A question that stands in the schema of the first request alone: no student writes it without the schema."""
_CHECK_TOKENS = 256
"""Several times as long as that reply is."""


class OpenAIStudent(ServedStudent[str]):
    """A student that a server has; tokenizer, template and pixel limits are those of the same checkpoint here."""

    name = "openai"
    dtype = "server"

    def __init__(self, checkpoint: Checkpoint, options: StudentServerOptions) -> None:
        """Describe the servers; nothing is sent yet. Of the checkpoint only the processor is loaded.

        Raises:
            CheckpointError: there is no DynEval student, or its chat template does not give the token ids of training.
            SettingError: an address is no URL, or the server alone can choose a setting.
        """
        if checkpoint.dtype is not None:
            raise SettingError("--dtype is the server's to choose with --engine openai")
        # Which weights a server has it does not say, so there is no revision.
        super().__init__(checkpoint.processor())
        model = options.served_model or checkpoint.name
        if not self.is_exact(tokens.t2ia_turn("a cat"), 0) or not self.is_exact(tokens.iqa_turn(), 1):
            raise CheckpointError(
                f"{model}: the chat template of this checkpoint does not give the token ids of training, so a server "
                "cannot score with it; use --engine vllm or transformers"
            )
        self._chat = OpenAIEngine(model, options)
        self._is_fit = False
        self.close_with(self._chat.close)

    def read(self, images: Sequence[Image.Image]) -> list[str]:
        """Return the images as data URLs: lossless, made once for all three passes that see them."""
        with ThreadPoolExecutor() as pool:
            files = pool.map(png_bytes, images)
            return [f"data:image/png;base64,{base64.b64encode(file).decode('ascii')}" for file in files]

    def is_exact(self, turn: str, images: int) -> bool:
        """Tell whether a server reads a human turn as the token ids of training.

        Args:
            turn: as it is stored in training data.
            images: how many it has.
        """
        # One token for each image, here and below: as templates have it, before a server widens it.
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": _text(turn, images)}]
        conversation: Any = [{"role": "user", "content": content}]
        template = self.processor.tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=True
        )
        ids = self.processor.tokenizer.encode(str(template), add_special_tokens=False)
        return ids == self.processor.layout([Turn("user", turn, images)], [1] * images, add_generation_prompt=True)[0]

    async def check(self) -> None:
        """Ask, once, for a reply of which all but the score is the schema's. Raises UnfitServer."""
        if self._is_fit:
            return
        schema = evaluation_schema("readme", "t2ia", [_UNASKED], ReplyLimits(), reasoning=False)
        ask: Ask[str] = Ask("evaluation", tokens.t2ia_turn("a cat"), schema)
        try:
            reply = await self.reply_to(ask, _CHECK_TOKENS)
        except Unreachable:  # says nothing of what the server can do
            raise
        except ChatError as error:
            raise UnfitServer(str(error)) from None
        server = " or ".join(self._chat.labels)
        instead = "use one that does, such as vLLM, SGLang or llama.cpp"
        if form_of(reply.text) is None or _UNASKED not in reply.text:
            raise UnfitServer(
                f"{server}: takes our JSON schema (response_format) but does not hold its replies to it, so there "
                f"would be no valid scores; {instead}. It wrote {reply.text[:80]!r}"
            )
        if not any(len(token.alternatives) > 1 for token in reply.tokens):
            raise UnfitServer(
                f"{server}: gives no log-probabilities (top_logprobs), which soft scores are made from; {instead}"
            )
        self._is_fit = True

    async def reply_to(self, ask: Ask[str], max_new_tokens: int) -> ChatReply:
        """Get one reply.

        Raises:
            ChatError: there is none, or the server would read the turn as other tokens than those of training.
            UnfitServer: the server refuses what scores are made from.
        """
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
    """Return the text of a turn as a message has it: without the marks of images, which are parts of their own."""
    human = tokens.split_human_turn(turn, images)
    return (human.task_token or "") + human.text
