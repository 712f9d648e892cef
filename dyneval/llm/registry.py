"""The chat engines by name, and the options of each. An engine is imported only when it is made.

    from dyneval.llm.registry import make_engine

    engine = make_engine("oracle", "any name")     # the demo's, which needs no model

Every option here is also a flag of `dyneval annotate`. `docs/extend/engine.md` says how to add an engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from dyneval.registry import EngineEntry, Registry

if TYPE_CHECKING:
    from dyneval.llm.chat import ChatEngine

MAX_PIXELS = 1024 * 1024
"""Default pixel budget of an image in a request: 1,024 visual tokens."""

MaxPixels = Annotated[int, Meta(ge=1, description="scale larger images down")]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptions:
    """Options of engine openai: one or more OpenAI-compatible servers with the same model."""

    base_urls: Annotated[
        tuple[str, ...],
        Meta(description="such as http://localhost:8000/v1; repeat for several", extra={"flag": "base-url"}),
    ] = ()
    """None means the hosted OpenAI API."""
    api_key_env: Annotated[
        str | None, Meta(description="environment variable that holds the API key", extra={"metavar": "NAME"})
    ] = None
    """None means OPENAI_API_KEY for the hosted API, and no key for servers that are given by their addresses."""
    timeout: Annotated[float, Meta(gt=0, description="seconds for one request")] = 600.0
    max_retries: Annotated[int, Meta(ge=0, description="how often a request is sent again")] = 8
    patience: Annotated[float, Meta(ge=0, description="seconds to wait for lost or busy servers")] = 900.0
    """Begins where the retries end, and only for servers that have answered before: a large model takes minutes to
    start again."""
    server_options: Annotated[
        tuple[str, ...],
        Meta(
            description="a further field of requests, such as top_k=20; KEY=null leaves one out; may be repeated",
            extra={"flag": "server-option", "metavar": "KEY=VALUE"},
        ),
    ] = ()
    """A value that is not JSON is a text."""
    max_pixels: MaxPixels = MAX_PIXELS
    concurrency: Annotated[int, Meta(ge=1, description="requests in flight, over all servers")] = 64
    needs_schema: Annotated[bool, Meta(description="a reply that is not held to its schema is of no use")] = False
    """A server that refuses schemas then ends the run, instead of being asked without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmEngineOptions:
    """Options of vLLM in this process, shared by teachers and students: a model on all GPUs that it is given."""

    tensor_parallel_size: Annotated[int, Meta(ge=1, description="GPUs that share a copy of the model")] = 1
    data_parallel_size: Annotated[int, Meta(ge=1, description="copies of the model")] = 1
    max_model_len: Annotated[int, Meta(ge=1, description="tokens of a request and its reply, at most")] = 32768
    gpu_memory_utilization: Annotated[float, Meta(gt=0, le=1, description="share of the GPUs' memory to take")] = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class VllmOptions(VllmEngineOptions):
    """Options of engine vllm."""

    max_pixels: MaxPixels = MAX_PIXELS


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformersOptions:
    """Options of engine transformers: a model in this process, in batches."""

    batch_size: Annotated[int, Meta(ge=1, description="requests decoded together")] = 8
    """Halved when memory runs out."""
    device: Annotated[str | None, Meta(description="torch device; default: all GPUs, or the CPU")] = None
    max_pixels: MaxPixels = MAX_PIXELS
    dtype: Annotated[str, Meta(description="torch type of the weights; auto: as they were saved")] = "auto"


ENGINES: Registry[ChatEngine] = Registry(
    "chat engine",
    ("chat", "close"),
    {
        "openai": EngineEntry(
            target="dyneval.llm.openai_server:OpenAIEngine",
            options=ServerOptions,
            flags=("base_urls", "api_key_env", "timeout", "max_retries", "patience", "server_options", "max_pixels"),
        ),
        "vllm": EngineEntry(
            target="dyneval.llm.vllm_local:VllmEngine",
            options=VllmOptions,
            flags=("tensor_parallel_size", "data_parallel_size", "max_pixels"),
        ),
        "transformers": EngineEntry(
            target="dyneval.llm.transformers_local:TransformersEngine",
            options=TransformersOptions,
            flags=("batch_size", "device", "max_pixels"),
        ),
        "oracle": EngineEntry(target="dyneval.demo.oracle:OracleEngine"),
    },
)
"""Each engine is made from a model name or folder, and its options."""


def make_engine(name: str, model: str, **options: Any) -> ChatEngine:
    """Make the engine called `name`.

    Args:
        name: openai, vllm, transformers, oracle, or the user's own class as "module:Class".
        model: model name or folder; the oracle ignores it and calls itself "oracle".
        options: fields of the engine's options.

    Raises:
        SettingError: there is no such engine, or it refuses an option.
    """
    return ENGINES.make(name, model, ENGINES.options(name, **options))
