"""Tell whether an annotation was made from the prompt and image that its pair has today.

A prompt may be corrected and an image drawn again under the same id. Annotations of the earlier one would then train or
judge the new one, and nothing in their keys would show it.
"""

from __future__ import annotations

from pathlib import Path

from dyneval.errors import ImageError
from dyneval.files.images import read_file, resolve_below
from dyneval.hashing import bytes_sha256
from dyneval.records import Annotation, PairRecord, T2IAQuestions


def other_origin(row: Annotation, pair: PairRecord, root: Path) -> str | None:
    """Say from what other prompt or image a row was made, for messages; None where it is the pair's own.

    Rows of older versions, and published ones, do not say what their image was: it is taken to be the pair's.

    Args:
        row: an annotation of this pair, or of its prompt.
        pair: the pair as the metadata describes it.
        root: folder of the images.
    """
    if row.prompt != pair.prompt and row.prompt.strip() != pair.prompt.strip():
        return f"made for the prompt {row.prompt[:80]!r}, while the pair's is {pair.prompt[:80]!r}"
    if isinstance(row, T2IAQuestions) or row.image_sha256 in (None, pair.sha256):
        return None
    # Where row and metadata name different images, the file decides: metadata made by hand may be wrong.
    if row.image_sha256 == image_sha256(root, pair):
        return None
    return f"made from another image (SHA-256 {row.image_sha256[:12]}..., while the pair's is {pair.sha256[:12]}...)"


def image_sha256(root: Path, pair: PairRecord) -> str | None:
    """SHA-256 of the file of a pair's image, in hex; None where it cannot be read."""
    try:
        return bytes_sha256(read_file(resolve_below(root, pair.file_name), pair.file_name))
    except ImageError:
        return None
