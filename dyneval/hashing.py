"""Every hash that is written to a file, or that decides which part of the data goes where.

Ids of prompts, seeds of images, the split into training and held-out data, shards and the keys of scores all come from
here. Their values stand in the files of finished runs. If one changed, a rerun would take finished work for new work
and do it again, or mix two splits. `tests/test_hashing.py` pins the values.
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
    """Return a name for a text: `digits` hex digits, an even number from 2 to 128.

    blake2b mixes the length into the hash, so the 8 digits of a text are not the first 8 of its 16.

    Raises:
        UnicodeEncodeError: the text holds half a character (a lone surrogate).
    """
    return hashlib.blake2b(text.encode("utf-8"), digest_size=digits // 2).hexdigest()


def number(text: str, purpose: str = "") -> int:
    """Return a number from 0 to 2**64 - 1 that depends on the text alone, spread evenly.

    Args:
        text: such as the id of a prompt.
        purpose: at most 16 ASCII characters. Numbers for different purposes are independent: whether a prompt is held
            out then says nothing about the shard that it is in.
    """
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8, person=purpose.encode("ascii")).digest()
    return int.from_bytes(digest, "big")


def part_of(text: str, purpose: str, parts: int) -> int:
    """Return which of `parts` equal parts a text belongs to, counted from 0; see `number` for `purpose`."""
    # The remainder favours the first parts by less than parts / 2**64, which no count of prompts can show.
    return number(text, purpose) % parts


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash an array of numbers, of any shape; every input bit changes about half of the output bits.

    `number` would take a call in Python for each element.
    """
    # The finaliser of splitmix64, with its published shifts and multipliers (Steele, Lea and Flood, 2014).
    import numpy as np

    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def fingerprint(settings: Any, digits: int = 16) -> str:
    """Return a name for settings, or for anything else that JSON can hold: `digits` hex digits.

    Paths count as their text. Two runs may share a folder's images only when their fingerprints agree.
    """
    return short_id(json.dumps(settings, sort_keys=True, default=str), digits)


def content_key(
    prompt: str, image_hash: str, student: Mapping[str, Any], questions: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """Return the key of a score, a hash of all that it was made from: scores with the same key are interchangeable.

    Args:
        prompt: the prompt, to the letter.
        image_hash: SHA-256 of the image's file, or of its pixels where there is no file.
        student: weights, template and all settings that change scores, as JSON values.
        questions: the T2IA questions that were given for the prompt; None where the student asks its own.

    Returns:
        SHA-256 in hex.
    """
    content = {"prompt": prompt, "image": image_hash, "student": student, "questions": questions}
    return bytes_sha256(json.dumps(content, sort_keys=True).encode("ascii"))


def bytes_sha256(content: bytes | memoryview) -> str:
    """SHA-256 of bytes, in hex; for the content of a file the same as `file_sha256`."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the contents and names of files of one folder, in hex; their order does not matter. Raises OSError."""
    from concurrent.futures import ThreadPoolExecutor

    files = sorted(paths)
    # Threads help, since hashing releases the interpreter lock: a checkpoint has several files of gigabytes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(file_sha256, files)
    lines = (f"{digest}  {path.name}\n" for digest, path in zip(hashes, files, strict=True))
    return bytes_sha256("".join(lines).encode())


def pixels_sha256(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels, in hex; for images that came from no file."""
    # Mode and size go in first: 2x3 and 3x2 pixels can have the same bytes.
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode("ascii"))
    digest.update(image.tobytes())
    return digest.hexdigest()
