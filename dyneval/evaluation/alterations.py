"""Images altered in ways that do not change what a person thinks of them: JPEG, smaller, mirrored.

`dyneval reliability --alter` scores both forms. A judge whose scores change is not reliable to that degree. An image
with writing in it is the exception: mirrored, it is a worse image for a person, too.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
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

# The names in `ALTERATIONS` state both figures: with another value, change the name, or old scores count as new ones.
JPEG_QUALITY = 90
RESIZED = 0.75
"""Of width and height."""


ALTERATIONS: dict[str, str] = {"jpeg90": ".jpg", "resize75": ".png", "mirror": ".png"}
"""By name: the suffix of the altered file."""


def _content(image: Image.Image, name: str) -> bytes:
    """The file of an altered image; PNG where the alteration itself loses nothing more."""
    from PIL import Image as pillow
    from PIL import ImageOps

    if name == "mirror":
        return png_bytes(ImageOps.mirror(image))
    if name == "resize75":
        size = max(1, round(image.width * RESIZED)), max(1, round(image.height * RESIZED))
        return png_bytes(image.resize(size, pillow.Resampling.LANCZOS))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=JPEG_QUALITY)
    return data.getvalue()


def altered(
    pairs: Sequence[UnscoredImage], images: Path, folder: Path, name: str, workers: int = 1
) -> Iterator[UnscoredImage]:
    """Write the images of pairs altered, but for those that are there already, and yield the pairs of the new images.

    An image that cannot be read is left out with a warning; scoring the originals rejects it as well.

    Args:
        pairs: of the original images.
        images: the folder that those lie in.
        folder: where the altered ones are written.
        name: one of `ALTERATIONS`.
        workers: how many images are altered at a time.
    """
    suffix = ALTERATIONS[name]

    def make(pair: UnscoredImage) -> UnscoredImage | None:
        try:
            source = image_path(images, pair.file_name)
            # The name holds the original's time and size, so an image that has changed is altered again.
            file_name = f"{short_id(f'{pair.file_name} {file_version(source)}')}{suffix}"
            if not (folder / file_name).exists():
                content = _content(load_image(source), name)
                with atomic_write(folder / file_name, "wb") as file:
                    file.write(content)
        except ImageError as error:
            logger.warning("%s: %s: left out", name, error)
            return None
        return pair._replace(file_name=file_name)

    # Threads are enough: Pillow lets others run while it packs and resizes.
    with ThreadPoolExecutor(workers) as pool:
        yield from filter(None, pool.map(make, pairs))
