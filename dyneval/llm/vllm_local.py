"""Chat with a teacher in vLLM's asynchronous engine in this process: continuous batching without a server between.

The asynchronous engine, not `LLM`: that one prepares the images of all prompts before the GPUs begin. Data parallel
copies share one queue here. The parts that build requests need no vLLM, so they are tested without it.
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

_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
"""Where the configurations of models that see hold that of their language model."""
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Names of the number of experts: of Qwen, of Mixtral and of what transformers saves, of DeepSeek and GLM, of DBRX."""


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
        """Answer one request. Raises ChatError when the engine fails, ImageError when an image is unusable."""
        import asyncio

        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        prompt = await asyncio.to_thread(self._prompt, request)
        structured = StructuredOutputsParams(**held_to(request.schema)) if request.schema is not None else None
        sampling = SamplingParams(
            **sampling_arguments(request), structured_outputs=structured, output_kind=RequestOutputKind.FINAL_ONLY
        )
        return reply_of(await last_output(self._engine, prompt, sampling, str(next(self._numbers))))

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._engine.shutdown()
        del self._engine  # left until Python ends, it stumbles over modules that are gone

    def _prompt(self, request: ChatRequest) -> dict[str, Any]:
        return {
            "prompt": render(self.tokenizer, request),
            "multi_modal_data": {"image": images} if (images := pictures(request, self.max_pixels)) else {},
        }


def start_engine(model: str, options: VllmEngineOptions, **more: Any) -> Any:
    """Start vLLM's asynchronous engine with schemas held by guidance; `more` are further arguments of its own.

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
    # Whitespace is switched off with every request too, but not every version of vLLM looks there. guidance compiles
    # bounded schemas in milliseconds; xgrammar unrolls bounded texts and takes 12-31 s for each.
    structured = StructuredOutputsConfig(backend="guidance", disable_any_whitespace=True)
    arguments = AsyncEngineArgs(**engine_arguments(model, options), structured_outputs_config=structured, **more)
    try:
        return AsyncLLM.from_engine_args(arguments)
    except Exception as error:  # vLLM's own exceptions share no base but this; its processes have said what happened
        raise SettingError(f"vLLM does not start with {model}: {error} (its own lines above say why)") from error


async def last_output(engine: Any, prompt: dict[str, Any], sampling: Any, number: str) -> Any:
    """The RequestOutput of one request, when it is finished.

    Raises:
        Refused: this request failed; the engine goes on.
        ChatError: it ended without a reply.
        EngineStopped: the engine is dead.
    """
    final: Any = None
    try:
        async for output in engine.generate(prompt, sampling, request_id=number):
            final = output
    except Exception as error:  # vLLM's own exceptions share no base but this
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
    """Experts in a layer of a model, by its config.json; 0 for a dense one.

    The name says nothing: Qwen3-VL-235B-A22B is a mixture of experts, a folder "run-A" is none.

    Raises:
        CheckpointError: there is no such model.
    """
    from transformers import PreTrainedConfig

    try:
        # As it is written: a model that this transformers does not know may be one that vLLM runs.
        config, _ = PreTrainedConfig.get_config_dict(model)
    except OSError as error:
        raise CheckpointError(f"{model}: the model cannot be loaded ({error})") from error
    parts = [config, *(config[name] for name in _TEXT_CONFIGS if isinstance(config.get(name), dict))]
    counts = [part[name] for part in parts for name in _EXPERT_COUNTS if isinstance(part.get(name), int)]
    return max(counts, default=0)


def sampling_arguments(request: ChatRequest) -> dict[str, Any]:
    """Keyword arguments of SamplingParams but the schema."""
    return {"max_tokens": request.max_tokens, "temperature": request.temperature, "seed": request.seed}


def held_to(schema: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of StructuredOutputsParams; free whitespace would let the teacher write blanks without end."""
    return {"json": schema, "disable_any_whitespace": True}


def render(tokenizer: PreTrainedTokenizerBase, request: ChatRequest) -> str:
    """The request in the model's chat template, image placeholders before the text, up to where the reply begins."""
    turns: list[dict[str, Any]] = [
        {
            "role": message.role,
            "content": [*({"type": "image"} for _ in message.images), {"type": "text", "text": message.text}],
        }
        for message in request.messages
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def pictures(request: ChatRequest, max_pixels: int) -> list[Image.Image]:
    """The images of a request within the pixel budget. Raises ImageError."""
    from PIL import Image

    found = []
    for image in (load_image(path) for message in request.messages for path in message.images):
        if image.width * image.height > max_pixels:
            image = image.resize(fit(image.width, image.height, max_pixels), Image.Resampling.LANCZOS)
        found.append(image)
    return found


def reply_of(output: Any) -> ChatReply:
    """ChatReply from vLLM's RequestOutput. Raises ChatError when it holds no completion."""
    completions: Sequence[Any] = output.outputs
    if not completions:
        raise ChatError("vLLM: the request ended without a completion")
    return ChatReply(
        text=completions[0].text,
        finish_reason=completions[0].finish_reason or "stop",
        prompt_tokens=len(output.prompt_token_ids or ()),
        completion_tokens=len(completions[0].token_ids),
    )
