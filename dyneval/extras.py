"""Which extra (`pip install 'dyneval[EXTRA]'`) brings which package, for messages about a package that is missing.

The core installs in seconds and leaves torch, polars and the like out. A package that is imported somewhere and stands
under no extra here would end a run with a traceback instead of the command that installs it.
"""

from __future__ import annotations

from importlib.util import find_spec

# The names under which packages are imported, not those under which they are installed: `google` is google-genai.
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
"""Packages that commands import, by extra. Where several extras bring a package, the first one is suggested."""
# The extra that has all that a verb needs, so that nobody installs one package after the other.
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


def missing_extra(error: ImportError, verb: str = "") -> str | None:
    """Say in one line how to install what could not be imported.

    Args:
        error: names the package.
        verb: of the command that needs it, such as "score".

    Returns:
        None where the package belongs to no extra, or is installed and broken: then the traceback says more.
    """
    package = (error.name or "").partition(".")[0]
    # The verb's own extra first: it brings whatever else the verb needs.
    known = [extra for extra in (_OF_VERBS.get(verb), *EXTRAS) if extra and package in EXTRAS[extra]]
    if not known or find_spec(package) is not None:
        return None
    return f"this needs {package}, which is not installed: {install(known[0])}"


def install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'dyneval[{extra}]'"
