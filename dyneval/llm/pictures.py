"""Make data URLs of image files for a chat server: checked, scaled to the pixel budget, each made only once.

Several requests about the same image follow each other closely. Each of them would otherwise decode, scale and encode
it again, on the CPU of the machine that has to keep the server busy.
"""

from __future__ import annotations

import asyncio
import base64
import math
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from dyneval.files.images import load_image, png_bytes
from dyneval.llm.registry import MAX_PIXELS

GRID = 32
"""Qwen3-VL sees squares of 32x32 pixels (patch 16, merged 2x2); sizes in this grid are not resized again."""
_MIME = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_ORIENTATION = 0x0112


def fit(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Return the largest (width, height) in the 32-pixel grid of about this aspect ratio with at most `max_pixels`.

    Sides are at least 32 pixels, so a very narrow image may exceed `max_pixels`.
    """
    scale = math.sqrt(max_pixels / (width * height))
    return max(GRID, int(width * scale) // GRID * GRID), max(GRID, int(height * scale) // GRID * GRID)


def data_url(path: Path, max_pixels: int = MAX_PIXELS) -> str:
    """Return an image file as a data URL: its own bytes where every server can read them, else upright RGB as PNG.

    Args:
        path: the image file.
        max_pixels: larger images are scaled down.

    Raises:
        ImageError: the image is missing or broken.
    """
    # PNG, since a teacher that looks for artefacts must not see those of JPEG.
    image = load_image(path)
    if image.width * image.height > max_pixels:
        image = image.resize(fit(image.width, image.height, max_pixels), Image.Resampling.LANCZOS)
    elif mime := _plain_format(path):
        return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image)).decode('ascii')}"


def _plain_format(path: Path) -> str | None:
    """Media type of a file that a server sees as we do: RGB, one frame, upright, opaque; None for any other."""
    try:
        with Image.open(path) as image:
            if image.mode != "RGB" or getattr(image, "n_frames", 1) > 1:
                return None
            if image.getexif().get(_ORIENTATION, 1) != 1 or "transparency" in image.info:
                return None
            return _MIME.get(image.format or "")
    except ValueError:  # a PNG with a text that is too long for Pillow, and so perhaps for the server
        return None


class DataUrls:
    """Data URLs by path, made in threads and shared by the requests about one image.

    Attributes:
        max_pixels: larger images are scaled down.
        keep: how many of the last data URLs are kept; each may have megabytes.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, keep: int = 256, threads: int | None = None) -> None:
        """Get ready; `threads` make data URLs at a time, None: one a processor, 8 at most."""
        self.max_pixels = max_pixels
        self.keep = keep
        self._made: OrderedDict[Path, asyncio.Future[bytes]] = OrderedDict()
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1), thread_name_prefix="images")

    async def get(self, path: Path) -> bytes:
        """Return the data URL of `path` as JSON, for `JsonBody`. Raises ImageError when the image cannot be used."""
        url = self._made.get(path)
        if url is None:
            # As a JSON string: putting two megabytes through a JSON encoder takes longer than sending them.
            url = self._made[path] = asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: f'"{data_url(path, self.max_pixels)}"'.encode("ascii")
            )
            while len(self._made) > self.keep:
                self._made.popitem(last=False)  # whoever waits for it still gets it
        else:
            self._made.move_to_end(path)
        return await asyncio.shield(url)  # a cancelled request does not take the image from the others

    def close(self) -> None:
        """Stop the threads; images that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
