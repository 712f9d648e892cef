"""Find the right image folder where a user has named one that is a folder too deep.

Tables name images as `IMAGES/1.png`, below a folder that holds `IMAGES`; it is easy to pass `IMAGES` itself. The caller
then names the right folder in its error message, where a user would otherwise read that all images are missing.
"""

from __future__ import annotations

from pathlib import Path


def folder_above(root: Path, name: str) -> Path | None:
    """The folder that `name` is relative to, where that is not `root` but a folder above it; else None.

    Args:
        root: the image folder as the user gave it.
        name: path of an image as the table has it, such as "IMAGES/1.png".
    """
    base = root.absolute()
    parts = Path(name).parts
    for depth, parent in enumerate(base.parents, 1):
        if depth >= len(parts):
            return None
        # The path has to lead through `root`: a file of the same name elsewhere above is another image.
        if base.parts[-depth:] == parts[:depth] and ".." not in parts and (parent / name).is_file():
            return parent
    return None
