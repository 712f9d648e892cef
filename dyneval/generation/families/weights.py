"""Loads weights for the families that run a model here: records commits, explains failures, notes versions.

A record without the commit of its weights cannot be drawn again once the repository has moved. And what the libraries
raise when a licence was not accepted or a package is missing seldom says so; `Weights.reading` turns it into a message
that does.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dyneval.errors import GenerationError
from dyneval.generation.model import BatchTooLarge, ModelBroken, ModelSpec
from dyneval.work.batches import out_of_memory, release_memory

PACKAGES = ("diffusers", "transformers", "torch")


class Weights:
    """What a model was loaded from.

    Attributes:
        dtype: torch dtype that the weights are loaded in.
        commits: each repo that was read -> the commit found, or "local" for a folder.
    """

    def __init__(self, spec: ModelSpec, device: str, dtype: str, asked: Mapping[str, str]) -> None:
        """Load nothing yet.

        Args:
            spec: whose weights they are.
            device: "cuda:0", "cpu".
            dtype: the spec's; on a CPU everything runs in float32, since half precision is slow or missing there.
            asked: commit, tag or branch of the repos that are not to be the newest.
        """
        import torch

        self.spec = spec
        self.asked = asked
        self.device = device
        self.dtype: torch.dtype = getattr(torch, on_cpu(dtype) if device == "cpu" else dtype)
        self.commits: dict[str, str | None] = {}

    def load(self, loader: Any, repo: str, **arguments: Any) -> Any:
        """Return `loader.from_pretrained(repo, ...)`, with its commit recorded. Raises GenerationError as `reading`."""
        with self.reading(repo) as revision:
            return loader.from_pretrained(repo, **revision, **arguments)

    @contextmanager
    def reading(self, repo: str) -> Iterator[dict[str, str]]:
        """Yield what names the commit of `repo` to a library, {} for the newest; what was read is recorded.

        Raises:
            GenerationError: not found, not allowed, or a package is missing; says what to do.
        """
        from huggingface_hub import constants, get_token

        revision = self.asked.get(repo)
        try:
            yield {"revision": revision} if revision else {}
        # Pickles, tokenizers and code of others raise anything; only this model is lost by it.
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            hint = ""
            # Without a token the Hub keeps a gated repo back, and libraries word that in many ways. A folder, or a
            # missing one, is kept back by nobody: there advice about a licence would mislead.
            is_repo = re.fullmatch(r"[\w.-]+/[\w.-]+", repo) and not Path(repo).exists()
            is_denied = get_token() is None or re.search(r"\b(gated|restricted|401|403)\b", str(error))
            if self.spec.gated and is_repo and is_denied:
                page = f"https://huggingface.co/{repo}"
                hint = f" Its licence must be accepted: open {page}, agree, then run `hf auth login`."
            if constants.HF_HUB_OFFLINE and not Path(repo).is_dir():
                hint += " HF_HUB_OFFLINE is set: nothing is downloaded."
            what = f"cannot load {repo} ({type(error).__name__}: {text})"
            raise GenerationError(f"{self.spec.slug}: {what}.{hint}") from error
        self.commits[repo] = commit(repo, revision)

    def facts(self, repo: str) -> dict[str, Any]:
        """Return what is recorded with each image about the loaded weights, those of `repo` first."""
        import torch

        is_gpu = self.device.startswith("cuda")
        return {
            "revision": self.commits.get(repo),
            "weights": self.commits,
            "versions": versions((*PACKAGES, *self.spec.packages)),
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": torch.cuda.get_device_name(self.device) if is_gpu else self.device,
        }


# A function, so that a test can run the weights' own dtype on a CPU.
def on_cpu(dtype: str) -> str:
    """Return the dtype in which weights of a `dtype` run on a CPU."""
    return "float32"


def commit(repo: str, revision: str | None = None) -> str | None:
    """Return the commit of a repo as it was read last, "local" for a folder, None when it cannot be told.

    Libraries do not tell which commit they read: transformers 5.23 no longer keeps it on a configuration. The
    cache of the Hub notes the commit of each branch and tag that was asked for, whatever files were.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if Path(repo).is_dir():
        return "local"
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    cache = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="model"))
    try:
        return (cache / "refs" / (revision or constants.DEFAULT_REVISION)).read_text().strip()
    except OSError:
        return None


@contextmanager
def device_errors() -> Iterator[None]:
    """Tell a full device (smaller batches help) and a dead one (nothing does) from a bad prompt.

    Raises:
        BatchTooLarge: the device ran out of memory.
        ModelBroken: the device failed; a CUDA context takes no further call after that.
    """
    import torch

    try:
        yield
    except torch.AcceleratorError as error:  # before its base class RuntimeError
        raise ModelBroken(f"the device failed: {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        if reason := out_of_memory(error):
            release_memory()
            raise BatchTooLarge(reason) from error
        raise


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed versions of `packages` and of Python."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def component_bytes(components: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes of parameters and buffers of each component that has any."""
    import torch

    return {
        name: sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
        for name, module in components.items()
        if isinstance(module, torch.nn.Module)
    }
