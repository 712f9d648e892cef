"""What the core of DynEval leaves out: third-party packages by the extra that brings them."""

from __future__ import annotations

from importlib.util import find_spec

_TABLES = ("numpy", "polars")
_LOCAL = ("torch", "transformers", "tokenizers", "safetensors", "llguidance", "huggingface_hub", "jinja2", "numpy")
_HUB = ("datasets", "pyarrow", "huggingface_hub", *_TABLES)
_EVAL = ("scipy", "jinja2", *_TABLES)

EXTRAS: dict[str, tuple[str, ...]] = {
    "tables": _TABLES,
    "local": _LOCAL,
    "teacher": ("openai", "aiohttp", "json_repair", "numpy", "tokenizers", "huggingface_hub"),
    "prompts": ("jinja2", *_TABLES),
    "eval": _EVAL,
    "report": ("vl_convert", *_EVAL),
    "serve": ("fastapi", "uvicorn", "starlette", "prometheus_client", "python_multipart", "numpy"),
    "hub": _HUB,
    "generate": ("diffusers", "google", "sentencepiece", *_HUB, *_LOCAL),
    "train": ("accelerate", "deepspeed", "peft", "qwen_vl_utils", "matplotlib", "tensorboard", "jsonschema", *_LOCAL),
    "ray": ("ray",),
    "gpu": ("flash_attn",),
    "vllm": ("vllm",),
    "excel": ("openpyxl",),
    "language": ("py3langid",),
    "torchmetrics": ("torchmetrics",),
    "pyiqa": ("pyiqa",),
    "imagereward": ("ImageReward",),
    "hpsv2": ("hpsv2",),
    "hpsv3": ("hpsv3",),
    "vqascore": ("t2v_metrics",),
}
"""Packages that commands import, by extra; where several have one, the first stands for it."""
_OF_VERBS = {
    "prompts": "prompts",
    "generate": "generate",
    "gendb": "hub",
    "annotate": "teacher",
    "train": "train",
    "score": "local",
    "best": "local",
    "preferences": "hub",
    "benchmark": "eval",
    "leaderboard": "eval",
    "check": "eval",
    "reproduce": "eval",
    "reliability": "eval",
    "serve": "serve",
    "doctor": "local",
    "demo": "local",
}
"""The extra that a verb is told, where it has the package: all that the verb needs in one go."""


def missing_extra(error: ImportError, verb: str = "") -> str | None:
    """One line that says how to get what could not be imported; None where it belongs to no extra.

    Args:
        error: names the package.
        verb: of the command that wants it.
    """
    package = (error.name or "").partition(".")[0]
    known = [extra for extra in (_OF_VERBS.get(verb), *EXTRAS) if extra and package in EXTRAS[extra]]
    if not known or find_spec(package) is not None:
        return None  # it is nothing that an extra would bring, or it is here and broken
    return f"this needs {package}, which is not installed: {install(known[0])}"


def install(extra: str) -> str:
    """The command that adds an extra."""
    return f"pip install 'dyneval[{extra}]'"
