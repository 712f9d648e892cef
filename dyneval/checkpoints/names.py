"""Students by name: the published ones, and the demo judge that the package brings along.

`--checkpoint dyneval-4b` is shorter than a Hub repository and its subfolder, and `demo` works without a network. A name
that is added here works in every verb that loads a student.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

from dyneval.errors import CheckpointError

PUBLISHED = {
    "dyneval-2b": ("vcl-iisc/DynEval-Evaluator", "DynEval-2B"),
    "dyneval-4b": ("vcl-iisc/DynEval-Evaluator", "DynEval-4B"),
}
"""Repository and folder in it."""
DEMO = "demo"
DEFAULT = "dyneval-2b"
NAMES = (*PUBLISHED, DEMO)
# A name and no import: `demo` is built on all other packages, and this one lies below most of them.
_JUDGE = "dyneval.demo.weights"


def named(checkpoint: str | Path, subfolder: str | None = None) -> tuple[str | Path, str | None]:
    """Where a student is that may go by a name: folder or Hub repository, and the folder in it.

    A folder that is called like a name is written with a path: ./demo.

    Raises:
        CheckpointError: a subfolder was given together with a name, which already says its subfolder.
    """
    # Code that passes a Path means a folder, whatever it is called.
    if str(checkpoint) not in NAMES or isinstance(checkpoint, Path):
        return checkpoint, subfolder
    if subfolder:
        raise CheckpointError(f"{checkpoint}: is the name of a student, and has no subfolder {subfolder}")
    return (demo_judge(), None) if checkpoint == DEMO else PUBLISHED[str(checkpoint)]


def at_revision(checkpoint: str | Path) -> tuple[str | Path, str | None]:
    """Split USER/NAME@REVISION into the repository of the Hub and its commit, tag or branch; a folder stays whole.

    Args:
        checkpoint: folder, or repository with or without "hf://" before it.

    Returns:
        The checkpoint, and the revision or None.
    """
    if isinstance(checkpoint, Path) or Path(checkpoint).exists():
        return checkpoint, None
    name, _, revision = checkpoint.removeprefix("hf://").partition("@")
    return name, unquote(revision) or None


def demo_judge() -> Path:
    """Folder of the demo judge below the user's cache (XDG_CACHE_HOME); it is written when it is first asked for.

    The folder's name holds the version of the weights, so a release with another judge writes another folder.
    """
    weights = import_module(_JUDGE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dyneval"
    folder = cache / f"demo-judge-{weights.judge_version()}"
    if not (folder / "config.json").is_file():
        weights.write_judge(folder)
    return folder
