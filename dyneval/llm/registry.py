"""The one place that knows the engines by name; each is imported only when it is asked for."""

from __future__ import annotations

from typing import Any

from dyneval.errors import SettingError
from dyneval.llm.chat import ChatEngine

ENGINES = ("openai", "vllm", "transformers", "oracle")


def make_engine(name: str, model: str, **options: Any) -> ChatEngine:
    """Build the engine called `name`.

    Args:
        name: one of `ENGINES`.
        model: model name or folder; the oracle ignores it and calls itself "oracle".
        options: the keyword arguments of the engine's class.

    Raises:
        SettingError: no such engine, or an option that it refuses.
    """
    if name == "openai":
        from dyneval.llm.openai_server import OpenAIEngine

        return OpenAIEngine(model, **options)
    if name == "vllm":
        from dyneval.llm.vllm_local import VllmEngine

        return VllmEngine(model, **options)
    if name == "transformers":
        from dyneval.llm.transformers_local import TransformersEngine

        return TransformersEngine(model, **options)
    if name == "oracle":
        from dyneval.demo.oracle import OracleEngine

        return OracleEngine(**options)
    raise SettingError(f"engine {name!r}: expected one of {', '.join(ENGINES)}")
