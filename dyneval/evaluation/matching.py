"""Find the rated image that a score belongs to: by its id, or by the end of its path."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from dyneval.evaluation.benchmarks.base import RatedImage


class Matcher:
    """The rated images of a benchmark, looked up by id or by path; a path may lie below any folder."""

    def __init__(self, items: Iterable[RatedImage]) -> None:
        self._by_id = {item.item_id: item for item in items}
        self._by_image = {item.image: item for item in self._by_id.values()}

    def find(self, key: str | None, image: str | None) -> RatedImage | None:
        """Return the image with the id `key`, else the one whose path `image` ends in; None when there is none."""
        if key is not None and key in self._by_id:
            return self._by_id[key]
        parts = PurePosixPath((image or "").replace("\\", "/")).parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((self._by_image[end] for end in ends if end in self._by_image), None)
