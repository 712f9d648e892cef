"""Find the rated image that a score belongs to: by its id, or by the end of its path.

A score that goes to the wrong image is worse than one that goes to none: agreement falls, and nothing says why. So
whatever is in doubt is refused, with the names, and never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from dyneval.evaluation.benchmarks.base import RatedImage, RatingError
from dyneval.evaluation.spelling import alike_id, alike_path, path_parts, without_suffix

Key = tuple[str | None, str | None]
"""What a row of scores names: an id, an image, or both."""
Parts = tuple[str, ...]


def match(items: Sequence[RatedImage], keys: Sequence[Key], *, numbered: bool = False) -> list[list[RatedImage]]:
    """Find the rated images of rows of scores.

    A name that is the same to the letter comes first, then one that is equal by the rules of
    `dyneval.evaluation.spelling`. Image names count more than ids, which may be a table's own row numbers.

    Args:
        items: the rated images.
        keys: of each row its id and its image.
        numbered: the ids are the numbers of the rows.

    Returns:
        For each row its image, none where it is not rated, several where one image of one prompt is in several
        groups.

    Raises:
        RatingError: an id and an image name contradict each other, or it is not clear which of several images is meant.
    """
    matcher = _Matcher(items)
    by_image = [matcher.by_image(image) if image else [] for _, image in keys]
    by_id = [matcher.by_id(key, alone=not image) if key is not None else [] for key, image in keys]
    agreed = [[item for item in ids if item in paths] for ids, paths in zip(by_id, by_image, strict=True)]
    # An id may decide about an image that has another name here. It may not where ids can be numbers of rows, or where
    # names of the table are found and no id agrees with one of them.
    is_sure = not numbered and (not any(by_image) or any(agreed))
    found = []
    for (key, image), ids, paths, both in zip(keys, by_id, by_image, agreed, strict=True):
        if ids and image and not paths and not is_sure:
            raise RatingError(
                f"the id {key!r} belongs to the image {ids[0].image}, but its row names {image}, which is no rated "
                "image; correct the ids, or leave them out where they are the table's own row numbers"
            )
        if ids and paths and not both:
            raise RatingError(
                f"the id {key!r} belongs to the image {ids[0].image}, the path {image} to {paths[0].image}; "
                "correct the ids, or leave them out where they are the table's own row numbers"
            )
        meant = both or paths or ids
        # One image of one prompt may be an item in each of several groups; any other two items are a doubt.
        if len({(item.image, item.prompt) for item in meant}) > 1 or any(item.group is None for item in meant[1:]):
            names = " and ".join(item.item_id for item in meant[:2])
            raise RatingError(f"{image or key} may be {names}; give the scores the ids of the benchmark")
        found.append(meant)
    return found


class _Matcher:
    """The rated images, looked up by id or by path.

    The indexes of looser spellings are made when a name is first not found as it is: most tables never need them.
    """

    def __init__(self, items: Sequence[RatedImage]) -> None:
        self._items = items
        self._ids = _listed((item.item_id, item) for item in items)
        self._paths = _PathIndex([(path_parts(item.image), item) for item in items])
        self._has_own_ids = any(item.item_id != item.image for item in items)

    def by_id(self, key: str, *, alone: bool) -> list[RatedImage]:
        """The images of an id; `alone`: of a row without an image, whose id may be the path of one."""
        found = self._ids.get(key) or self._alike_ids.get(alike_id(key), [])
        return found or (self.by_image(key) if alone and not self._has_own_ids else [])

    def by_image(self, image: str) -> list[RatedImage]:
        """The images of which one path is the end of the other."""
        found = self._paths.find(path_parts(image))
        if found:
            return found
        parts = alike_path(image)
        bare = without_suffix(parts)
        alike, stems, bare_paths = self._alike_paths
        # A name without a suffix may have any suffix; a.png is not a.jpg.
        return alike.find(parts) or (bare_paths.find(bare) if bare else stems.find(parts))

    @cached_property
    def _alike_ids(self) -> dict[str, list[RatedImage]]:
        return _listed((alike_id(item.item_id), item) for item in self._items)

    @cached_property
    def _alike_paths(self) -> tuple[_PathIndex, _PathIndex, _PathIndex]:
        """All paths in their looser spelling; those with the suffix of an image, without it; those that have none."""
        paths = [(alike_path(item.image), item) for item in self._items]
        stems = [(stem, item) for path, item in paths if (stem := without_suffix(path))]
        bare = [(path, item) for path, item in paths if without_suffix(path) is None]
        return _PathIndex(paths), _PathIndex(stems), _PathIndex(bare)


class _PathIndex:
    """Images by their paths and by the ends of those."""

    def __init__(self, paths: list[tuple[Parts, RatedImage]]) -> None:
        self._paths = paths
        self._whole = _listed(("/".join(path), item) for path, item in self._paths)

    def find(self, parts: Parts) -> list[RatedImage]:
        """The images with the longest path that `parts` ends in, else those whose path ends in `parts`."""
        # The longest end first: of "a/1.png" and "1.png", a path .../a/1.png means the first.
        for start in range(len(parts)):
            if found := self._whole.get("/".join(parts[start:])):
                return found
        return self._ends.get("/".join(parts), [])

    @cached_property
    def _ends(self) -> dict[str, list[RatedImage]]:
        return _listed(("/".join(path[start:]), item) for path, item in self._paths for start in range(1, len(path)))


def _listed(pairs: Iterable[tuple[str, RatedImage]]) -> dict[str, list[RatedImage]]:
    found: dict[str, list[RatedImage]] = defaultdict(list)
    for name, item in pairs:
        found[name].append(item)
    return dict(found)
