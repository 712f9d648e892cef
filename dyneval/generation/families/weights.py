"""Loading weights, for the families that run a model here: commits recorded, failures explained, versions noted."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dyneval.errors import GenerationError
from dyneval.generation.model import BatchTooLarge, ModelBroken, ModelSpec
from dyneval.work.batches import out_of_memory, release_memory

PACKAGES = ("diffusers", "transformers", "torch")


class Weights:
    """What a model was loaded from: `commits` maps each repo to the commit found, or to "local" for a folder."""

    def __init__(self, spec: ModelSpec, device: str, dtype: str) -> None:
        """`dtype` is the spec's; on a CPU everything runs in float32, since half precision is slow or missing there."""
        import torch

        self.spec = spec
        self.device = device
        self.dtype: torch.dtype = torch.float32 if device == "cpu" else getattr(torch, dtype)
        self.commits: dict[str, str | None] = {}

    def load(self, loader: Any, repo: str, *, revision: str | None = None, **arguments: Any) -> Any:
        """`loader.from_pretrained(repo, ...)`, with its commit recorded.

        Raises:
            GenerationError: not found, not allowed, or a package is missing; says what to do.
        """
        with explained(self.spec, repo):
            loaded = loader.from_pretrained(repo, **({"revision": revision} if revision else {}), **arguments)
        self.commits[repo] = commit(repo, revision)
        return loaded

    def facts(self, repo: str) -> dict[str, Any]:
        """What is recorded with each image about the loaded weights, those of `repo` first."""
        return {
            "revision": self.commits.get(repo),
            "weights": self.commits,
            "versions": versions((*PACKAGES, *self.spec.packages)),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": device_name(self.device),
        }


def commit(repo: str, revision: str | None = None) -> str | None:
    """Commit hash of a repo in the local cache, "local" for a folder, None when it cannot be told."""
    from huggingface_hub import try_to_load_from_cache

    if Path(repo).is_dir():
        return "local"
    for name in ("model_index.json", "config.json", "tokenizer_config.json", "README.md"):
        path = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(path, str):
            return Path(path).parts[Path(path).parts.index("snapshots") + 1]
    return None


@contextmanager
def explained(spec: ModelSpec, repo: str) -> Iterator[None]:
    """Turn what loading can raise into one GenerationError that says what to do."""
    try:
        yield
    except Exception as error:  # pickles, tokenizers and code of others raise anything; it is this model's loss only
        text = " ".join(str(error).split())[:400]
        gate = (
            f" Its licence must be accepted: open https://huggingface.co/{repo}, agree, then run `hf auth login`."
            if spec.gated
            else ""
        )
        raise GenerationError(f"{spec.slug}: cannot load {repo} ({type(error).__name__}: {text}).{gate}") from error


@contextmanager
def device_errors() -> Iterator[None]:
    """Tell a full device (smaller batches help) and a dead one (nothing does) from a bad prompt."""
    import torch

    try:
        yield
    except torch.AcceleratorError as error:
        raise ModelBroken(f"the device failed: {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        if reason := out_of_memory(error):
            release_memory()
            raise BatchTooLarge(reason) from error
        raise


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions of `packages` and of Python."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """Name of the hardware: "cpu", or what the GPU calls itself."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def component_bytes(components: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of parameters and buffers of each component that has any."""
    import torch

    return {
        name: sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
        for name, module in components.items()
        if isinstance(module, torch.nn.Module)
    }
