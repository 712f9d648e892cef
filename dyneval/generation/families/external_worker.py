"""The other end of an external model: runs in the environment of the model's authors, with their code, not with ours.

    ENV/bin/python external_worker.py ADAPTER.py

Only the standard library is needed here; an adapter brings what its model needs. It speaks JSON, a line a message, over
stdin and stdout. What anything else prints goes to stderr. Messages to the worker:

    {"do": "load", "repo": ..., "commits": {repo: commit, tag or branch}, "parts": {name: repo}, "arguments": {...},
     "device": ..., "code": ...}
    {"do": "draw", "folder": ..., "requests": [{"id": ..., "prompt": ..., "seed": ...}]}

and from it, `ready` or `broken` after the first, and after the second one of `image` and `failed` for each request:

    {"is": "ready", "facts": {...}}                        {"is": "broken", "reason": ...}
    {"is": "image", "id": ..., "file": name below the folder, "prompt_sent": ..., "seconds": ...}
    {"is": "failed", "id": ..., "reason": ...}             {"is": "done"}

An end of stdin ends the worker. An adapter is a file with a class `Adapter`:

    class Adapter:
        def __init__(self, job): ...          # load; `job` is an AdapterJob
        def draw(self, prompt, seed): ...     # a PIL image; random, numpy and torch are seeded with `seed` before
        def wording(self, prompt): ...        # optional: the prompt as it is sent
        def read(self, prompt): ...           # optional: what the authors' code makes of a prompt that it is sent
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TextIO

PACKAGES = ("torch", "transformers", "diffusers")


class AdapterJob:
    """What an adapter is to load.

    Attributes:
        repo: repo id or folder of the weights (absolute); `weights(job.repo)` is always a folder.
        parts: further weights by name.
        arguments: steps, guidance and size.
        code: folder of the authors' code, already on the import path.
    """

    def __init__(self, message: dict[str, Any]) -> None:
        """Take a `load` message."""
        self.repo = _absolute(message["repo"])
        self.parts = {name: _absolute(repo) for name, repo in (message.get("parts") or {}).items()}
        self.asked: dict[str, str] = message.get("commits") or {}
        self.arguments: dict[str, Any] = message["arguments"]
        self.device: str = message["device"]
        self.code = Path(message["code"])
        self.commits: dict[str, str] = {}

    def weights(self, repo: str, only: list[str] | None = None, without: list[str] | None = None) -> Path:
        """Folder of a repo's files, downloaded if need be; its commit is recorded.

        `only` and `without` are patterns of file names: what a model does not read is not fetched.
        """
        if Path(repo).is_dir():
            self.commits[repo] = "local"
            return Path(repo)
        from huggingface_hub import snapshot_download

        revision = self.asked.get(repo)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=only, ignore_patterns=without))
        self.commits[repo] = folder.name
        return folder

    def facts(self) -> dict[str, Any]:
        """What is recorded with each image."""
        versions = {"python": platform.python_version()}
        for package in PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {
            "revision": self.commits.get(self.repo),
            "weights": self.commits,
            "versions": versions,
            "device": self.device,
            "code_commit": _git_commit(self.code),
        }


def _absolute(repo: str) -> str:
    """A repo id as it is; a folder by a path that holds when the authors' code changes into another one."""
    return str(Path(repo).resolve()) if Path(repo).is_dir() else repo


def _git_commit(folder: Path) -> str | None:
    """Commit of a checkout, with "-dirty" where files of it were changed; None for a folder that is none itself."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True).stdout.strip()

    try:
        # A folder without a checkout of its own may lie in another project's: that one's commit says nothing.
        if Path(git("rev-parse", "--show-toplevel") or os.devnull) != folder.resolve():
            return None
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except OSError:
        return None


def load_adapter(path: Path, job: AdapterJob) -> Any:
    """Import an adapter file and have it load its model."""
    sys.path.insert(0, str(job.code))
    if job.device.startswith("cuda"):
        import torch

        torch.cuda.set_device(job.device)  # authors' code often names no device
    spec = importlib.util.spec_from_file_location("adapter", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Adapter(job)


def seed_everything(seed: int) -> None:
    """Seed the generators that authors' code may use."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def draw(adapter: Any, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Answer one request with an `image` or a `failed` message."""
    start = time.perf_counter()
    try:
        prompt = getattr(adapter, "wording", str)(request["prompt"])
        seed_everything(request["seed"])
        image = adapter.draw(prompt, request["seed"])
        name = f"{request['id']}.png"
        image.save(folder / name, compress_level=1)
    except Exception as error:  # one prompt's trouble must not end the worker
        return {"is": "failed", "id": request["id"], "reason": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - start
    read = getattr(adapter, "read", str)(prompt)
    return {"is": "image", "id": request["id"], "file": name, "prompt_sent": read, "seconds": seconds}


def serve(adapter_path: Path, source: TextIO, send: Any) -> None:
    """Answer messages until `source` ends."""
    adapter = None
    for line in source:
        message = json.loads(line)
        if message["do"] == "load":
            try:
                job = AdapterJob(message)
                adapter = load_adapter(adapter_path, job)
            except Exception as error:  # the parent says so and goes on with other models
                send({"is": "broken", "reason": f"{type(error).__name__}: {error}"})
                return
            send({"is": "ready", "facts": job.facts()})
        else:
            for request in message["requests"]:
                send(draw(adapter, request, Path(message["folder"])))
            send({"is": "done"})


def main() -> None:
    """Keep stdout for messages, and serve."""
    # Python puts the folder of this file first, where `diffusers` and `transformers` are modules of ours.
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    source = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    serve(Path(sys.argv[1]), source, send)


if __name__ == "__main__":
    main()
