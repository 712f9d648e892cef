"""What an annotation was made from: the prompt and image of its pair, or others that stood in their place before."""

from __future__ import annotations

from pathlib import Path

from dyneval.errors import ImageError
from dyneval.files.images import read_file, resolve_below
from dyneval.hashing import bytes_sha256
from dyneval.records import Annotation, PairRecord, T2IAQuestions


def other_origin(row: Annotation, pair: PairRecord, root: Path) -> str | None:
    """What a row was made from that the pair has not, for messages; None where it is the pair's own.

    Rows of before, and published ones, do not say what their image was: it is taken for the pair's. Where a row names
    another image than the metadata, the file decides: metadata made by hand may be wrong.

    Args:
        row: of this pair, or of its prompt.
        pair: as the metadata describes it.
        root: folder of the images.
    """
    if row.prompt != pair.prompt and row.prompt.strip() != pair.prompt.strip():
        return f"made for the prompt {row.prompt[:80]!r}, while the pair's is {pair.prompt[:80]!r}"
    if isinstance(row, T2IAQuestions) or row.image_sha256 in (None, pair.sha256):
        return None
    if row.image_sha256 == image_sha256(root, pair):
        return None
    return f"made from another image (SHA-256 {row.image_sha256[:12]}..., while the pair's is {pair.sha256[:12]}...)"


def image_sha256(root: Path, pair: PairRecord) -> str | None:
    """SHA-256 of the file of a pair's image; None where there is none that can be read."""
    try:
        return bytes_sha256(read_file(resolve_below(root, pair.file_name), pair.file_name))
    except ImageError:
        return None
