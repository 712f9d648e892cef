"""One image onto the disk, and the check that it is still what was written."""

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
    """What the index keeps of a record."""

    file_name: str
    sha256: str
    fingerprint: str
    sidecars: tuple[str, ...]


def fault(root: Path, entry: SavedImage) -> str | None:
    """Why a recorded image is not as it was written (missing, truncated, changed, sidecar gone), or None."""
    try:
        read(root, entry)
    except ImageError as error:
        return str(error)
    return None


def read(root: Path, entry: SavedImage) -> tuple[bytes, dict[str, Path]]:
    """The bytes of a recorded image, and its sidecars by suffix. Raises ImageError: not as they were written."""
    path = images.resolve_below(root, entry.file_name)
    content = images.read_file(path, str(path))
    images.decode_image(content, str(path))
    if bytes_sha256(content) != entry.sha256:
        raise ImageError(f"{path}: the file is not the one recorded (SHA-256 differs)")
    beside = {suffix: sidecar(root, entry.file_name, suffix) for suffix in entry.sidecars}
    for suffix, place in beside.items():
        if not place.is_file():
            raise ImageError(f"{path}: its sidecar {suffix} is missing")
    return content, beside


def sidecars_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Suffixes of the files that lie beside an image, as its record says; anyone may have written that."""
    named = settings.get("sidecars", ())
    return tuple(map(str, named)) if isinstance(named, list | tuple) else (str(named),)


def sidecar(root: Path, file_name: str, suffix: str) -> Path:
    """The file beside an image with this suffix, such as ".truth.json". Raises ImageError: it would lie elsewhere."""
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
    """Write an image and its sidecars below `root`; flagged and black images become rejects.

    Returns:
        The record to append, or why the image is not one.
    """
    image = from_image(made.image)  # transparency is laid on white
    if made.safety:
        return NoImage(request=made.request, reason="flagged by the model's safety checker", permanent=made.seeded)
    if _is_black(image):
        return NoImage(request=made.request, reason="the image is black", permanent=made.seeded)
    buffer = io.BytesIO()
    image.save(buffer, **_ENCODE[form])
    request = made.request
    path = root / slug / f"{request.pair_id}.{form}"
    for suffix, content in made.sidecars.items():
        _write(path.with_suffix(suffix), content)
    _write(path, buffer.getvalue())
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
        settings=_settings(made, settings, facts),
        sha256=bytes_sha256(buffer.getbuffer()),
    )


def _is_black(image: Image.Image) -> bool:
    """Whether no channel of any pixel is bright; a few thousand pixels decide about nearly every image."""
    sample = image.resize((64, 64), Image.Resampling.NEAREST)
    return all(max(max(band) for band in part.getextrema()) < _BLACK for part in (sample, image))  # type: ignore[arg-type]


def _settings(made: GeneratedImage, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **settings,
        **facts,
        "fingerprint": fingerprint(settings),
        "prompt_sent": made.prompt_sent,
        "seconds": round(made.seconds, 4),
        "safety": made.safety,
        "sidecars": list(made.sidecars),
        **({"details": dict(made.details)} if made.details else {}),
    }


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path, "wb") as file:
        file.write(content)
