"""What the core of DynEval leaves out: third-party packages by the extra that brings them."""

from __future__ import annotations

from importlib.util import find_spec

EXTRAS: dict[str, tuple[str, ...]] = {
    "local": ("torch", "transformers", "tokenizers", "safetensors", "llguidance", "huggingface_hub", "jinja2", "numpy"),
    "tables": ("polars",),
    "teacher": ("openai", "aiohttp", "json_repair"),
    "eval": ("scipy",),
    "report": ("vl_convert",),
    "serve": ("fastapi", "uvicorn", "starlette", "prometheus_client", "python_multipart"),
    "train": ("accelerate", "deepspeed", "peft", "qwen_vl_utils", "matplotlib", "tensorboard", "jsonschema"),
    "generate": ("diffusers", "google", "sentencepiece", "datasets", "pyarrow"),
    "ray": ("ray",),
    "gpu": ("flash_attn",),
    "vllm": ("vllm",),
    "excel": ("openpyxl",),
    "language": ("py3langid",),
}
"""Packages that a command imports by the extra that is told where one is missing: the smallest that has it."""


def missing_extra(error: ImportError) -> str | None:
    """One line that says how to get what could not be imported; None where it belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
    if extra is None or find_spec(package) is not None:
        return None  # it is here and broken, or nothing that an extra would bring
    return f"this needs {package}, which is not installed: {install(extra)}"


def install(extra: str) -> str:
    """The command that adds an extra."""
    return f"pip install 'dyneval[{extra}]'"
