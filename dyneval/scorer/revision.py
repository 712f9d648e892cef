"""Which weights a student has: the commit of its Hub repository, or a hash of the files of a local checkpoint."""

from __future__ import annotations

import re
from pathlib import Path

from dyneval.checkpoints import IDENTITY_FILES
from dyneval.hashing import files_sha256

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def may_be_on_hub(checkpoint: str) -> bool:
    """True for owner/name, unless that is a path whose first part is here: a mistyped folder is not looked up."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint) is not None and not Path(checkpoint).parent.is_dir()


def hub_commit(checkpoint: str | Path, subfolder: str | None) -> str | None:
    """Commit that the Hub has now for a repository, or the cache without network; None for a folder, or where unknown.

    Everything of the student is then loaded from this commit: an update in the meantime cannot mix two.
    """
    from transformers.utils.hub import cached_file

    if Path(checkpoint, subfolder or "").is_dir() or not may_be_on_hub(str(checkpoint)):
        return None
    try:
        found = cached_file(str(checkpoint), "config.json", subfolder=subfolder or "")
    except (OSError, ValueError):  # no such repository: loading says what is wrong with it
        return None
    # <cache>/models--OWNER--NAME/snapshots/COMMIT/SUBFOLDER/config.json. The configuration in memory no longer has it.
    commit = Path(found).parents[len(Path(subfolder or "").parts)].name if found else ""
    return commit if re.fullmatch("[0-9a-f]{40}", commit) else None


def student_revision(checkpoint: str | Path, subfolder: str | None, commit: str | None = None) -> str | None:
    """Identity of a student, wherever its folder is and whatever it is called.

    All bytes of a local checkpoint are read (a fine-tuning of some rows of the embedding would escape samples), one
    thread a file: a second or two for each GB, about what loading it takes.

    Args:
        checkpoint: folder, or Hub repository id.
        subfolder: folder of the student inside it.
        commit: of the repository that it was loaded from.

    Returns:
        "sha256:..." of a local checkpoint, "hub:COMMIT" or "hub:COMMIT/SUBFOLDER" of a repository; None where the Hub
        told no commit.
    """
    folder = Path(checkpoint, subfolder or "")
    if folder.is_dir():
        files = {path for pattern in (*_WEIGHTS, *IDENTITY_FILES) for path in folder.glob(pattern)}
        return f"sha256:{files_sha256(files)}"
    return "/".join(filter(None, (f"hub:{commit}", subfolder))) if commit else None
