"""A student in vLLM's asynchronous engine in this process. What builds requests needs no vLLM and is tested without.

vLLM gets token ids, made by the processor of training, so that a prompt may hold any text; the image stands in them as
one `<|image_pad|>`, which vLLM widens to as many as the image takes. Passed as text, a prompt with `<|im_end|>` in it
would end its own turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dyneval.llm.chat import ChatError, ChatReply, TokenChoice
from dyneval.llm.registry import VllmEngineOptions
from dyneval.llm.vllm_local import held_to, last_output, reply_of, start_engine
from dyneval.processing import Processor, Turn
from dyneval.scorer.students.base import Ask
from dyneval.scorer.students.registry import Checkpoint
from dyneval.scorer.students.served import ServedStudent, guided, top_logprobs

if TYPE_CHECKING:
    from PIL import Image


class VllmStudent(ServedStudent["Image.Image"]):
    """A student on the GPUs of this machine."""

    name = "vllm"

    def __init__(self, checkpoint: Checkpoint, options: VllmEngineOptions) -> None:
        """Load a student.

        Raises:
            CheckpointError: there is no such student.
            SettingError: vLLM is not installed, or does not start with these options.
        """
        super().__init__(checkpoint.processor())
        self.dtype = checkpoint.dtype or "auto"
        # In a list that the closing function shares, which must not hold this student. It lets the engine go, since one
        # that is left until Python ends stumbles over modules that are gone.
        engines = self._engines = [start_engine(checkpoint.folder(), options, dtype=self.dtype)]
        self.close_with(lambda: engines.pop().shutdown())
        self.revision = checkpoint.revision()
        self._numbers = itertools.count()  # vLLM tells requests apart by a name that each must have

    def read(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Return them as they are: vLLM has a processor of its own."""
        return list(images)

    async def reply_to(self, ask: Ask[Image.Image], max_new_tokens: int) -> ChatReply:
        """Get one reply. Raises ChatError."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = SamplingParams(
            **sampling_arguments(ask, max_new_tokens),
            structured_outputs=StructuredOutputsParams(**held_to(guided(ask.schema))),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = await last_output(self._engines[0], prompt(self.processor, ask), sampling, str(next(self._numbers)))
        return with_choices(reply_of(output), output.outputs[0].logprobs)


def prompt(processor: Processor, ask: Ask[Image.Image]) -> dict[str, Any]:
    """Return a request to vLLM: token ids, and the image."""
    image = ask.image
    turn = Turn("user", ask.turn, int(image is not None))
    ids = processor.layout([turn], [1] * turn.images, add_generation_prompt=True)[0]
    return {"prompt_token_ids": ids, "multi_modal_data": {} if image is None else {"image": image}}


def sampling_arguments(ask: Ask[Any], max_new_tokens: int) -> dict[str, Any]:
    """Return the arguments of SamplingParams but the schema: greedy, with alternatives where there are scores."""
    arguments: dict[str, Any] = {"max_tokens": max_new_tokens, "temperature": 0.0}
    return arguments | ({"logprobs": top} if (top := top_logprobs(ask)) else {})


def with_choices(reply: ChatReply, logprobs: Any) -> ChatReply:
    """Add vLLM's logprobs to a reply.

    Args:
        reply: from vLLM's output.
        logprobs: for each token of the reply a dict from ids, the token's own first; None where none were wanted.

    Raises:
        ChatError: a token has none.
    """
    from dataclasses import replace

    choices = []
    for of_token in logprobs or ():
        known = list(of_token.values())
        if not known:
            raise ChatError("vLLM: a token without logprobs")
        texts = {one.decoded_token or "": one.logprob for one in known}
        choices.append(TokenChoice(known[0].decoded_token or "", known[0].logprob, texts))
    return replace(reply, tokens=tuple(choices))
