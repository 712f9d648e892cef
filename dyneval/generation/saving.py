"""Writes one image to the disk, and checks that it is still what was written.

GenDB trusts an image only as far as this file goes: bytes that decode and have the recorded SHA-256. It also
keeps images that are black or flagged by a safety checker out of the training data.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import Image

from dyneval.errors import ImageError
from dyneval.files import images
from dyneval.files.atomic import atomic_write
from dyneval.files.pixels import from_image
from dyneval.generation.model import GeneratedImage, NoImage
from dyneval.hashing import bytes_sha256, fingerprint
from dyneval.records import PairRecord

ImageFormat = Literal["png", "webp"]
# Level 1 encodes 1024x1024 in 0.09 s, level 6 in 0.51 s for a file that is 16 % smaller.
_ENCODE: dict[ImageFormat, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},
    "webp": {"format": "WEBP", "lossless": True, "method": 0},
}
_BLACK = 8
"""An image without any channel value of at least this is what a failed or censored model returns, not a picture."""


class SavedImage(NamedTuple):
    """What a record says of its files, and the fingerprint of the settings that they were made with."""

    file_name: str
    sha256: str
    fingerprint: str
    sidecars: tuple[str, ...]


def recorded(file_name: str, sha256: str, settings: Mapping[str, Any]) -> SavedImage:
    """Return what a record says of its files.

    Args:
        file_name: of the image, below the folder of the GenDB.
        sha256: of the image file, in hex.
        settings: of the record. They may come from anyone, so their types are not trusted; whether a sidecar's suffix
            leads out of the folder is looked at where its path is made (`sidecar`).
    """
    named = settings.get("sidecars", ())
    sidecars = tuple(map(str, named)) if isinstance(named, list | tuple) else (str(named),)
    return SavedImage(file_name, sha256, settings.get("fingerprint", ""), sidecars)


def fault(root: Path, saved: SavedImage) -> str | None:
    """Return why an image is not as it was written (missing, truncated, changed, sidecar gone); None where it is."""
    try:
        read(root, saved)
    except ImageError as error:
        return str(error)
    return None


def read(root: Path, saved: SavedImage) -> tuple[bytes, dict[str, Path]]:
    """Read an image and check it.

    Args:
        root: folder that `file_name` is relative to.
        saved: what the record says.

    Returns:
        The bytes of the image file, and the paths of its sidecars by suffix.

    Raises:
        ImageError: a file is missing, does not decode, or is not the one recorded.
    """
    path = images.resolve_below(root, saved.file_name)
    content = images.read_file(path, str(path))
    # Decoded as well as hashed: a file that was broken when it was recorded has the hash that was recorded.
    images.decode_image(content, str(path))
    if bytes_sha256(content) != saved.sha256:
        raise ImageError(f"{path}: the file is not the one recorded (SHA-256 differs)")
    beside = {suffix: sidecar(root, saved.file_name, suffix) for suffix in saved.sidecars}
    for suffix, place in beside.items():
        if not place.is_file():
            raise ImageError(f"{path}: its sidecar {suffix} is missing")
    return content, beside


def sidecar(root: Path, file_name: str, suffix: str) -> Path:
    """Return the path of the file beside an image with this suffix, such as ".truth.json"; it need not exist.

    Args:
        root: folder that `file_name` is relative to.
        file_name: of the image.
        suffix: takes the place of the image's own.

    Raises:
        ImageError: the suffix would lead to another folder.
    """
    # A record may come from elsewhere: a suffix such as "/../../secret" must not be read into an export.
    if not re.fullmatch(r"(\.[A-Za-z0-9_-]+)+", suffix):
        raise ImageError(f"{file_name}: its sidecar has the suffix {suffix[:80]!r}; expected one like .truth.json")
    return images.resolve_below(root, str(Path(file_name).with_suffix(suffix)))


def save(
    root: Path,
    slug: str,
    made: GeneratedImage,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    form: ImageFormat,
) -> PairRecord | NoImage:
    """Write an image and its sidecars below `root`/`slug`.

    Args:
        root: folder of the GenDB.
        slug: of the model; names the folder of its images.
        made: what the model returned.
        settings: what was asked of the model; their fingerprint is recorded, so that a rerun knows the image.
        facts: what loading found out: commits, versions, device.
        form: file format.

    Returns:
        The record to append; or NoImage where the image is black or flagged.

    Raises:
        OSError: the disk is full.
    """
    image = from_image(made.image)  # transparency is laid on white
    request = made.request
    # A model with a seed would return the same again, so the request is refused for good. One without may do better.
    if made.safety:
        return NoImage(request=request, reason="flagged by the model's safety checker", permanent=made.seeded)
    # A sample of a few thousand pixels decides about nearly every image. If it is black, all pixels are looked at.
    sample = image.resize((64, 64), Image.Resampling.NEAREST)
    if all(max(max(band) for band in part.getextrema()) < _BLACK for part in (sample, image)):  # type: ignore[arg-type]
        return NoImage(request=request, reason="the image is black", permanent=made.seeded)
    buffer = io.BytesIO()
    image.save(buffer, **_ENCODE[form])
    path = root / slug / f"{request.pair_id}.{form}"
    files = {path.with_suffix(suffix): content for suffix, content in made.sidecars.items()}
    for place, content in {**files, path: buffer.getvalue()}.items():
        with atomic_write(place, "wb") as file:
            file.write(content)
    return PairRecord(
        file_name=f"{slug}/{path.name}",
        pair_id=request.pair_id,
        prompt_id=request.prompt_id,
        prompt=request.prompt,
        tier=request.tier,
        categories=request.categories,
        generation_model=slug,
        seed=request.seed if made.seeded else None,
        width=image.width,
        height=image.height,
        settings={
            **settings,
            **facts,
            "fingerprint": fingerprint(settings),
            "prompt_sent": made.prompt_sent,
            "seconds": round(made.seconds, 4),
            "safety": made.safety,
            "sidecars": list(made.sidecars),
            **({"details": dict(made.details)} if made.details else {}),
        },
        sha256=bytes_sha256(buffer.getbuffer()),
    )
