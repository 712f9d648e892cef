"""Makes the environment of an external model: Python, the authors' code at its commit, the packages that it needs.

Seven models need versions of torch and transformers that exclude each other and ours, so each gets an environment of
its own. `dyneval generate --setup SLUG` calls `set_up`; doing the same by hand takes a page of commands a model.
"""

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

    Args:
        spec: the model; what is installed stands in its table.
        folder: where environments are kept.

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
        # Renamed when it is whole: a clone that was killed is a folder, too.
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
        # Without isolation, since flash-attn is built against the torch that was just installed.
        _run([*pip, "--no-build-isolation", *setup.afterwards])
    log.info("%s: its environment is %s", spec.slug, env)
    weights = [*dict.fromkeys(spec.variants.values()), *spec.parts.values()]
    log.info("weights, fetched when it first draws: %s", ", ".join(weights))
    log.info("licence: %s", spec.licence)
    if spec.gated:
        log.info("a licence must be accepted on the pages of the weights at https://huggingface.co")
    if setup.note:
        log.info("%s", setup.note)


def _interpreter(version: str, slug: str) -> str:
    """Return a Python of this version. Raises GenerationError: none is on PATH."""
    for name in (sys.executable, f"python{version}", "python3", "python"):
        path = shutil.which(name)
        # pyenv puts a shim on PATH for a version that is not installed: it is found, too, but does not run.
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        if path and subprocess.run([path, "-c", ask], capture_output=True, text=True).stdout.strip() == version:
            return path
    raise GenerationError(f"{slug} needs Python {version}, which is not on PATH; one way: uv python install {version}")


def _works(command: Sequence[str | Path]) -> bool:
    """Return whether a command ends without an error; what it prints is not shown."""
    try:
        return subprocess.run(command, capture_output=True, env=without_secrets(os.environ)).returncode == 0
    except OSError:
        return False


def _run(command: Sequence[str | Path]) -> None:
    """Show a command and run it. Raises GenerationError: it failed."""
    words = [str(word) for word in command]
    log.info("+ %s", " ".join(words))
    try:
        # Building a package runs code of its authors, which gets no keys of ours.
        done = subprocess.run(words, stdout=STDERR, env=without_secrets(os.environ))
    except OSError as error:
        raise GenerationError(f"{words[0]} cannot be run ({error})") from error
    if done.returncode:
        raise GenerationError(f"this command failed, see above: {' '.join(words)}")
