"""Find the rated image that a score belongs to: by its id, or by the end of its path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from dyneval.evaluation.benchmarks.base import RatedImage, RatingError


class Matcher:
    """The rated images of a benchmark, looked up by id or by path; a path may lie below any folder."""

    def __init__(self, items: Iterable[RatedImage]) -> None:
        self._by_id: dict[str, list[RatedImage]] = defaultdict(list)
        self._by_image: dict[str, list[RatedImage]] = defaultdict(list)
        for item in items:
            self._by_id[item.item_id].append(item)
            self._by_image["/".join(_parts(item.image))].append(item)

    def find(self, key: str | None, image: str | None) -> list[RatedImage]:
        """Return the image with the id `key`, else the one whose path `image` ends in.

        None where there is none; several where one image of one prompt stands in several groups.

        Raises:
            RatingError: id and path belong to different images, or it is not clear to which of several.
        """
        by_id = self._by_id.get(key, []) if key is not None else []
        by_path = self._ends_of(image) if image is not None else []
        both = [item for item in by_id if item in by_path]
        if by_id and by_path and not both:
            raise RatingError(
                f"the id {key!r} belongs to the image {by_id[0].image}, the path {image} to {by_path[0].image}; "
                "correct the ids, or leave them out where they are the table's own row numbers"
            )
        found = both or by_id or by_path
        if len({(item.image, item.prompt) for item in found}) > 1 or any(item.group is None for item in found[1:]):
            names = " and ".join(item.item_id for item in found[:2])
            raise RatingError(f"{image or key} may be {names}; give the scores the ids of the benchmark")
        return list(found)

    def _ends_of(self, image: str) -> Sequence[RatedImage]:
        """The images with the longest path that `image` ends in."""
        parts = _parts(image)
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((self._by_image[end] for end in ends if end in self._by_image), [])


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path of any system: tables from Windows have backslashes."""
    return PurePosixPath(path.replace("\\", "/")).parts
