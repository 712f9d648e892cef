"""Images as the tensors that metrics take, and the device that they compute on.

torch is imported inside the functions: `dyneval rival` asks a chat judge without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from PIL import Image


def device_of(device: str | None) -> torch.device:
    """The torch device of this name; None takes a GPU where there is one."""
    import torch

    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def by_size(images: Sequence[Image.Image], device: torch.device) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield places and tensor (N, 3, H, W), float32 from 0 to 1, of the images of each size: one tensor has one."""
    import numpy as np
    import torch

    places: dict[tuple[int, int], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.size, []).append(place)
    for group in places.values():
        pixels = np.stack([np.asarray(images[place], dtype=np.uint8) for place in group])
        yield group, torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
