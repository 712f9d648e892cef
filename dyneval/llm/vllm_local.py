"""Chat with a teacher in vLLM's asynchronous engine, in this process: continuous batching without a server.

The asynchronous engine is used and not `LLM`, which prepares the images of all prompts before the GPUs begin. Copies of
the model (data parallel) share one queue here. The functions that build requests and read replies need no vLLM, so that
they are tested where vLLM cannot be installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dyneval.errors import CheckpointError, SettingError
from dyneval.files.images import load_image
from dyneval.llm.chat import ChatError, ChatReply, ChatRequest, EngineStopped, Refused
from dyneval.llm.pictures import fit
from dyneval.llm.registry import VllmEngineOptions, VllmOptions

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedTokenizerBase

# Where the configuration of a vision-language model has that of its language model.
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
# What the number of experts is called: by Qwen, by Mixtral and transformers, by DeepSeek and GLM, by DBRX.
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


class VllmEngine:
    """A teacher in this process, on all GPUs that it is given."""

    name = "vllm"

    def __init__(self, model: str, options: VllmOptions) -> None:
        """Load `model`, a checkpoint folder or repository such as Qwen/Qwen3-VL-235B-A22B-Instruct-FP8.

        An FP8 checkpoint is recognised by its configuration.

        Raises:
            CheckpointError: there is no such model.
            SettingError: vLLM is not installed.
        """
        from transformers import AutoTokenizer

        self.model = model
        self.max_pixels = options.max_pixels
        self._engine = start_engine(model, options)
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model)
        self._numbers = itertools.count()

    async def chat(self, request: ChatRequest) -> ChatReply:
        """Answer one request. Raises ChatError when the engine fails, ImageError when an image cannot be used."""
        import asyncio

        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        # In threads: decoding an image would hold up the event loop, and with it the replies to other requests.
        text = await asyncio.to_thread(render, self.tokenizer, request)
        images = await asyncio.to_thread(pictures, request, self.max_pixels)
        prompt = {"prompt": text, "multi_modal_data": {"image": images} if images else {}}
        structured = StructuredOutputsParams(**held_to(request.schema)) if request.schema is not None else None
        sampling = SamplingParams(
            **sampling_arguments(request), structured_outputs=structured, output_kind=RequestOutputKind.FINAL_ONLY
        )
        return reply_of(await last_output(self._engine, prompt, sampling, str(next(self._numbers))))

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._engine.shutdown()
        del self._engine  # if it lived until Python ends, its destructor would use modules that are gone by then


def start_engine(model: str, options: VllmEngineOptions, **more: Any) -> Any:
    """Start vLLM's asynchronous engine, with guidance for schemas.

    Args:
        model: checkpoint folder or repository.
        options: GPUs, window and memory.
        more: further arguments of vLLM's engine.

    Raises:
        CheckpointError: there is no such model.
        SettingError: vLLM is not installed, or does not start with these options.
    """
    try:
        from vllm.config import StructuredOutputsConfig
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise SettingError(
            f"engine vllm needs vLLM, in an environment of its own: bash pipeline/setup_env.sh vllm, or pip install "
            f"'dyneval[vllm]' ({error})"
        ) from error
    # Whitespace is switched off with every request too, but not every version of vLLM reads it there. guidance compiles
    # bounded schemas in milliseconds; xgrammar unrolls bounded texts and takes 12-31 s for each schema.
    structured = StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True)
    arguments = AsyncEngineArgs(**engine_arguments(model, options), structured_outputs_config=structured, **more)
    try:
        return AsyncLLM.from_engine_args(arguments)
    except Exception as error:  # vLLM's exceptions share no other base; its processes have logged what happened
        raise SettingError(f"vLLM does not start with {model}: {error} (its own lines above say why)") from error


async def last_output(engine: Any, prompt: dict[str, Any], sampling: Any, number: str) -> Any:
    """Run one request, and return its last RequestOutput.

    Args:
        engine: vLLM's asynchronous engine.
        prompt: text and images.
        sampling: vLLM's SamplingParams.
        number: id of the request, different for each.

    Raises:
        Refused: this request failed; the engine works on.
        ChatError: the request ended without a reply.
        EngineStopped: the engine has stopped.
    """
    final: Any = None
    try:
        async for output in engine.generate(prompt, sampling, request_id=number):
            final = output
    except Exception as error:  # as above
        # `errored` tells a dead engine from one that only refuses this request.
        if getattr(engine, "errored", False):
            raise EngineStopped(f"vLLM has stopped: {error}") from error
        raise Refused(f"vLLM: {error or type(error).__name__}") from error
    if final is None:
        raise ChatError("vLLM: the request ended without a reply")
    return final


def engine_arguments(model: str, options: VllmEngineOptions) -> dict[str, Any]:
    """Keyword arguments of vLLM's engine: prefix cache on, one image a request, no video. Raises CheckpointError."""
    return {
        "model": model,
        "tensor_parallel_size": options.tensor_parallel_size,
        "data_parallel_size": options.data_parallel_size,
        "max_model_len": options.max_model_len,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        "enable_prefix_caching": True,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_encoder_tp_mode": "data",
        "enable_expert_parallel": expert_count(model) > 1,
    }


def expert_count(model: str) -> int:
    """Number of experts in a layer of a model, by its config.json; 0 for a dense model.

    The name is no sign: Qwen3-VL-235B-A22B is a mixture of experts, a model in a folder "run-A" need not be one.

    Raises:
        CheckpointError: there is no such model.
    """
    from transformers import PreTrainedConfig

    try:
        # The file as it is: vLLM may run a model that this version of transformers does not know.
        config, _ = PreTrainedConfig.get_config_dict(model)
    except OSError as error:
        raise CheckpointError(f"{model}: the model cannot be loaded ({error})") from error
    parts = [config, *(config[name] for name in _TEXT_CONFIGS if isinstance(config.get(name), dict))]
    counts = [part[name] for part in parts for name in _EXPERT_COUNTS if isinstance(part.get(name), int)]
    return max(counts, default=0)


def sampling_arguments(request: ChatRequest) -> dict[str, Any]:
    """Keyword arguments of SamplingParams, without the schema."""
    return {"max_tokens": request.max_tokens, "temperature": request.temperature, "seed": request.seed}


def held_to(schema: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of StructuredOutputsParams that hold a reply to `schema`."""
    # If whitespace were free, a teacher could write blanks without end.
    return {"json": schema, "disable_any_whitespace": True}


def render(tokenizer: PreTrainedTokenizerBase, request: ChatRequest) -> str:
    """The request as text in the model's chat template, images before the text, up to where the reply begins."""
    turns: list[dict[str, Any]] = [
        {
            "role": message.role,
            "content": [*({"type": "image"} for _ in message.images), {"type": "text", "text": message.text}],
        }
        for message in request.messages
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def pictures(request: ChatRequest, max_pixels: int) -> list[Image.Image]:
    """The images of a request, scaled down to at most `max_pixels` pixels. Raises ImageError."""
    from PIL import Image

    found = []
    for image in (load_image(path) for message in request.messages for path in message.images):
        if image.width * image.height > max_pixels:
            image = image.resize(fit(image.width, image.height, max_pixels), Image.Resampling.LANCZOS)
        found.append(image)
    return found


def reply_of(output: Any) -> ChatReply:
    """Make a ChatReply of vLLM's RequestOutput. Raises ChatError when it holds no completion."""
    completions: Sequence[Any] = output.outputs
    if not completions:
        raise ChatError("vLLM: the request ended without a completion")
    return ChatReply(
        text=completions[0].text,
        finish_reason=completions[0].finish_reason or "stop",
        prompt_tokens=len(output.prompt_token_ids or ()),
        completion_tokens=len(completions[0].token_ids),
    )
