"""Making the environment of an external model: Python, the authors' code at its commit, what both require."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dyneval.errors import GenerationError
from dyneval.generation.families.external import ExternalSpec, without_secrets
from dyneval.generation.model import ModelSpec

STDERR = 2
"""Where commands talk; our own stdout is for results."""

log = logging.getLogger(__name__)


def set_up(spec: ModelSpec, folder: Path) -> None:
    """Make `folder`/<slug> with `bin/python` and `code/`; what is whole already is kept, so a rerun goes on.

    Raises:
        GenerationError: the model needs no environment, there is no such Python, or a command failed.
    """
    if not isinstance(spec, ExternalSpec):
        raise GenerationError(f"{spec.slug} needs no environment of its own; --list says what this one lacks")
    setup, env = spec.setup, (folder / spec.slug).absolute()
    code, python = env / "code", env / "bin" / "python"
    if not _works([python, "-m", "pip", "--version"]):  # also where a kill left a Python and no pip
        _run([_interpreter(setup.python, spec.slug), "-m", "venv", env])
    if not code.exists():
        part = env / "code.part"
        shutil.rmtree(part, ignore_errors=True)
        _run(["git", "clone", "--quiet", spec.code, part])
        part.rename(code)
    if setup.commit:
        if not _works(["git", "-C", code, "cat-file", "-e", f"{setup.commit}^{{commit}}"]):  # an older clone
            _run(["git", "-C", code, "fetch", "--quiet", "origin"])
        _run(["git", "-C", code, "checkout", "--quiet", setup.commit])
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted: list[str | Path] = [word for name in setup.requirements for word in ("-r", code / name)]
    _run([*pip, *wanted, *setup.packages, *setup.basics])
    if setup.afterwards:
        _run([*pip, "--no-build-isolation", *setup.afterwards])
    for line in _told(spec, env):
        log.info("%s", line)


def _told(spec: ExternalSpec, env: Path) -> list[str]:
    weights = [*dict.fromkeys(spec.variants.values()), *spec.parts.values()]
    return [
        f"{spec.slug}: its environment is {env}",
        f"weights, fetched when it first draws: {', '.join(weights)}",
        f"licence: {spec.licence}",
        *(["a licence must be accepted on the pages of the weights at https://huggingface.co"] if spec.gated else []),
        *([spec.setup.note] if spec.setup.note else []),
    ]


def _interpreter(version: str, slug: str) -> str:
    """A Python of this version. A shim for one that is not installed is found, too, but does not run."""
    for name in (sys.executable, f"python{version}", "python3", "python"):
        path = shutil.which(name)
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        if path and subprocess.run([path, "-c", ask], capture_output=True, text=True).stdout.strip() == version:
            return path
    raise GenerationError(f"{slug} needs Python {version}, which is not on PATH; one way: uv python install {version}")


def _works(command: Sequence[str | Path]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, env=without_secrets(os.environ)).returncode == 0
    except OSError:
        return False


def _run(command: Sequence[str | Path]) -> None:
    words = [str(word) for word in command]
    log.info("+ %s", " ".join(words))
    try:
        # Building a package runs code of its authors.
        done = subprocess.run(words, stdout=STDERR, env=without_secrets(os.environ))
    except OSError as error:
        raise GenerationError(f"{words[0]} cannot be run ({error})") from error
    if done.returncode:
        raise GenerationError(f"this command failed, see above: {' '.join(words)}")
