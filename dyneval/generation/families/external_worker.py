"""The other end of an external model: runs in the environment of the model's authors, with their code, not with ours.

    $ ENV/bin/python external_worker.py ADAPTER.py

It may import nothing of `dyneval`, which is not installed there: only the standard library is needed here, and an
adapter brings what its model needs. The worker speaks JSON, a line a message, over stdin and stdout. What anything else
prints goes to stderr. Messages to the worker:

    {"do": "load", "repo": ..., "commits": {repo: commit, tag or branch}, "parts": {name: repo}, "arguments": {...},
     "device": ..., "code": ...}
    {"do": "draw", "folder": ..., "requests": [{"id": ..., "prompt": ..., "seed": ...}]}

and from it, `ready` or `broken` after the first, and after the second one of `image` and `failed` for each request:

    {"is": "ready", "facts": {...}}                        {"is": "broken", "reason": ...}
    {"is": "image", "id": ..., "file": name below the folder, "prompt_sent": ..., "seconds": ...}
    {"is": "failed", "id": ..., "reason": ...}             {"is": "done"}

An end of stdin ends the worker, so none is left when the parent is killed. An adapter is a file with a class `Adapter`:

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

PACKAGES = ("torch", "transformers", "diffusers")


class AdapterJob:
    """What an adapter is to load.

    Attributes:
        repo: repo id or folder of the weights (absolute); `weights(job.repo)` is always a folder.
        parts: further weights by name.
        asked: commit, tag or branch of the repos that are not to be the newest.
        arguments: steps, guidance and size.
        device: "cuda:0", "cpu".
        code: folder of the authors' code, already on the import path.
    """

    def __init__(self, message: dict[str, Any]) -> None:
        """Take a `load` message."""
        repos: dict[str, str] = {"": message["repo"], **(message.get("parts") or {})}
        # A folder by a path that holds when the authors' code changes into another one; a repo id as it is.
        repos = {name: str(Path(repo).resolve()) if Path(repo).is_dir() else repo for name, repo in repos.items()}
        self.repo, self.parts = repos.pop(""), repos
        self.asked: dict[str, str] = message.get("commits") or {}
        self.arguments: dict[str, Any] = message["arguments"]
        self.device: str = message["device"]
        self.code = Path(message["code"])
        self.commits: dict[str, str] = {}

    def weights(self, repo: str, only: list[str] | None = None, without: list[str] | None = None) -> Path:
        """Return the folder of a repo's files, downloaded if need be; its commit is recorded.

        Args:
            repo: repo id or folder.
            only: patterns of file names; nothing else is fetched.
            without: patterns of files that the model does not read: of FLUX.1 [dev] that spares 24 GB.
        """
        if Path(repo).is_dir():
            self.commits[repo] = "local"
            return Path(repo)
        from huggingface_hub import snapshot_download

        revision = self.asked.get(repo)
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=only, ignore_patterns=without))
        # The Hub's cache calls the folder of a snapshot like its commit.
        self.commits[repo] = folder.name
        return folder

    def facts(self) -> dict[str, Any]:
        """Return what is recorded with each image."""
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


def _git_commit(folder: Path) -> str | None:
    """Return the commit of a checkout, with "-dirty" where files of it were changed; None for another folder."""
    questions = "rev-parse --show-toplevel", "describe --always --dirty --abbrev=40 --exclude=*"
    try:
        top, commit = (
            subprocess.run(["git", "-C", str(folder), *words.split()], capture_output=True, text=True).stdout.strip()
            for words in questions
        )
    except OSError:  # no git here
        return None
    # A folder without a checkout of its own may lie in another project's: that one's commit says nothing.
    is_own = Path(top or os.devnull) == folder.resolve()
    return commit if is_own and commit else None


def load_adapter(path: Path, job: AdapterJob) -> Any:
    """Import an adapter file and have it load its model; returns its `Adapter`.

    Raises:
        FileNotFoundError: `path` is missing, or is no Python file. What the authors' code raises comes through.
    """
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


def draw(adapter: Any, request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Answer one request with an `image` or a `failed` message.

    Args:
        adapter: with the model loaded.
        request: its id, prompt and seed.
        folder: where the image is saved, as `<id>.png`.

    Returns:
        The message; its `seconds` are those of wording, drawing and saving.
    """
    start = time.perf_counter()
    seed = request["seed"]
    try:
        prompt = getattr(adapter, "wording", str)(request["prompt"])
        # All generators that authors' code may use; a library that was not imported draws nothing.
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)
        image = adapter.draw(prompt, seed)
        name = f"{request['id']}.png"
        image.save(folder / name, compress_level=1)  # the parent reads it at once and encodes it anew
    except Exception as error:  # one prompt's trouble must not end the worker
        return {"is": "failed", "id": request["id"], "reason": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - start
    read = getattr(adapter, "read", str)(prompt)
    return {"is": "image", "id": request["id"], "file": name, "prompt_sent": read, "seconds": seconds}


def serve(adapter_path: Path, source: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the answers to the messages of `source`, until it ends or the model cannot be loaded."""
    adapter = None
    for line in source:
        message = json.loads(line)
        if message["do"] == "load":
            try:
                job = AdapterJob(message)
                adapter = load_adapter(adapter_path, job)
            except Exception as error:  # the parent says so and goes on with other models
                yield {"is": "broken", "reason": f"{type(error).__name__}: {error}"}
                return
            yield {"is": "ready", "facts": job.facts()}
        else:
            for request in message["requests"]:
                yield draw(adapter, request, Path(message["folder"]))
            yield {"is": "done"}


def main() -> None:
    """Keep stdout for messages, and serve."""
    # Python puts the folder of this file first, where `diffusers` and `transformers` are modules of ours.
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    # Authors' code prints to stdout, also from C. So descriptor 1 is led to stderr, and messages go by a copy of it.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    source = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    for message in serve(Path(sys.argv[1]), source):
        print(json.dumps(message), file=out, flush=True)


if __name__ == "__main__":
    main()
