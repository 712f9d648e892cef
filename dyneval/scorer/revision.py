"""Which weights a student has: the commit of its Hub repository, or a hash of the files of a local checkpoint."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.images import sha256

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_OTHERS = ("config.json", "tokenizer.json", "preprocessor_config.json")


def student_revision(checkpoint: str | Path, subfolder: str | None, config: PretrainedConfig) -> str | None:
    """Identity of a student, wherever its folder is and whatever it is called.

    All bytes of a local checkpoint are read (a fine-tuning of some rows of the embedding would escape samples), one
    thread a file: a second or two for each GB, about what loading it takes.

    Args:
        checkpoint: folder, or Hub repository id.
        subfolder: folder of the student inside it.
        config: the loaded model's configuration, which knows the commit of a Hub repository.

    Returns:
        "sha256:..." of a local checkpoint, "hub:COMMIT" or "hub:COMMIT/SUBFOLDER" of a repository; None where the Hub
        told no commit.
    """
    folder = Path(checkpoint) / (subfolder or "")
    if folder.is_dir():
        return f"sha256:{_hash_of_files(folder)}"
    commit = getattr(config, "_commit_hash", None)
    return "/".join(filter(None, (f"hub:{commit}", subfolder))) if commit else None


def _hash_of_files(folder: Path) -> str:
    files = sorted({path for pattern in (*_WEIGHTS, *_OTHERS) for path in folder.glob(pattern)})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(sha256, files)
    lines = (f"{digest}  {path.name}\n" for digest, path in zip(hashes, files, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
