"""Image folders that were named one folder too deep."""

from __future__ import annotations

from pathlib import Path


def folder_above(root: Path, name: str) -> Path | None:
    """The folder that `name` is relative to, where that is not `root` but one above it; else None.

    Paths such as `IMAGES/1.png` belong to the folder that holds `IMAGES`. Who names `IMAGES` itself, which is easily
    done, has the right folder among its parents: the one from which the path leads to a file through `root`.
    """
    base = root.absolute()
    parts = Path(name).parts
    for depth, parent in enumerate(base.parents, 1):
        if depth >= len(parts):
            return None
        if base.parts[-depth:] == parts[:depth] and ".." not in parts and (parent / name).is_file():
            return parent
    return None
