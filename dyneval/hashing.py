"""Every hash that ends in a file, or that decides what goes where.

Their values stand in the files of finished runs: an id, a seed, a split or a key that changed would make them all anew.
`tests/test_hashing.py` pins them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


def short_id(text: str, digits: int = 16) -> str:
    """Return `digits` hex digits (an even number, 2-128) that name a text. Fewer digits are not the first of more.

    Raises:
        UnicodeEncodeError: the text holds half a character (a lone surrogate).
    """
    return hashlib.blake2b(text.encode("utf-8"), digest_size=digits // 2).hexdigest()


def number(text: str, purpose: str = "") -> int:
    """Return a number from 0 to 2**64 - 1 that only depends on a text, spread evenly.

    `purpose` (at most 16 bytes) makes numbers of other uses independent: whether a prompt is held out then says nothing
    about the machine that it goes to.
    """
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8, person=purpose.encode("ascii")).digest()
    return int.from_bytes(digest, "big")


def part_of(text: str, purpose: str, parts: int) -> int:
    """Which of so many equal parts a text belongs to, counted from 0; see `number` for `purpose`."""
    return number(text, purpose) % parts


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash numbers again (the finaliser of splitmix64): every input bit changes about half of the output bits.

    For arrays, where `number` of each element would be a call in Python.
    """
    import numpy as np

    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def fingerprint(settings: Any, digits: int = 16) -> str:
    """Return `digits` hex digits that name settings, or anything else that JSON can hold; paths count as their text.

    Two runs may share a folder's images only when their fingerprints agree.
    """
    return short_id(json.dumps(settings, sort_keys=True, default=str), digits)


def content_key(
    prompt: str, image_hash: str, student: Mapping[str, Any], questions: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """Name of a score by what it was made from: scores with one key are interchangeable.

    Args:
        prompt: the prompt, to the letter.
        image_hash: SHA-256 of the image's file, else of its pixels.
        student: weights, template and all settings that scores depend on, as JSON values.
        questions: the T2IA questions that were given for the prompt; None where the student asks its own.

    Returns:
        SHA-256 in hex.
    """
    content = {"prompt": prompt, "image": image_hash, "student": student, "questions": questions}
    return bytes_sha256(json.dumps(content, sort_keys=True).encode("ascii"))


def bytes_sha256(content: bytes | memoryview) -> str:
    """SHA-256 of bytes, in hex: that of the file that holds them."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the contents and names of files of one folder, in hex; their order does not count. Raises OSError.

    One thread a file: hashing releases the interpreter lock.
    """
    from concurrent.futures import ThreadPoolExecutor

    files = sorted(paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(file_sha256, files)
    lines = (f"{digest}  {path.name}\n" for digest, path in zip(hashes, files, strict=True))
    return bytes_sha256("".join(lines).encode())


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels, in hex; for images that came from no file."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode("ascii"))
    digest.update(image.tobytes())
    return digest.hexdigest()
