"""Images altered in ways that a person's rating survives, to see whether the judge's does: JPEG, smaller, mirrored."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dyneval.errors import ImageError
from dyneval.evaluation.unscored import UnscoredImage
from dyneval.files.atomic import atomic_write
from dyneval.files.images import file_version, image_path, load_image, png_bytes
from dyneval.hashing import short_id

if TYPE_CHECKING:
    from PIL import Image

logger = logging.getLogger(__name__)

JPEG_QUALITY = 90
RESIZED = 0.75
"""Of width and height."""


def _jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=JPEG_QUALITY)
    return data.getvalue()


def _resized(image: Image.Image) -> bytes:
    from PIL import Image as pillow

    size = max(1, round(image.width * RESIZED)), max(1, round(image.height * RESIZED))
    return png_bytes(image.resize(size, pillow.Resampling.LANCZOS))


def _mirrored(image: Image.Image) -> bytes:
    from PIL import ImageOps

    return png_bytes(ImageOps.mirror(image))


ALTERATIONS: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {
    "jpeg90": (".jpg", _jpeg),
    "resize75": (".png", _resized),
    "mirror": (".png", _mirrored),
}
"""By name: the suffix of the altered file, and what makes its content of an image."""


def altered(
    pairs: Sequence[UnscoredImage], images: Path, folder: Path, name: str, workers: int = 1
) -> Iterator[UnscoredImage]:
    """Write the images of pairs altered, but for those that are there already, and yield the pairs of the new images.

    An image that cannot be read is left out and told; scoring the originals rejects it as well.

    Args:
        pairs: of the original images.
        images: the folder that those lie in.
        folder: where the altered ones are written.
        name: one of `ALTERATIONS`.
        workers: how many images are altered at a time.
    """
    suffix, alter = ALTERATIONS[name]

    def make(pair: UnscoredImage) -> UnscoredImage | None:
        try:
            source = image_path(images, pair.file_name)
            # The file's time and size: an image that has changed is altered anew.
            file_name = f"{short_id(f'{pair.file_name} {file_version(source)}')}{suffix}"
            if not (folder / file_name).exists():
                content = alter(load_image(source))
                with atomic_write(folder / file_name, "wb") as file:
                    file.write(content)
        except ImageError as error:
            logger.warning("%s: %s: left out", name, error)
            return None
        return pair._replace(file_name=file_name)

    with ThreadPoolExecutor(workers) as pool:  # Pillow lets other threads run while it packs and resizes
        yield from filter(None, pool.map(make, pairs))
