"""The images of a benchmark or of a prompt list as pairs to score.

`dyneval benchmark --checkpoint`, `reproduce` and `rival` score images before they compare; they ask here which images
there are and which prompt each was made from.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from dyneval.errors import DataFileError, SettingError
from dyneval.evaluation.benchmarks.base import Benchmark, LayoutError, RatingError, load
from dyneval.evaluation.scored import read_prompts
from dyneval.evaluation.spelling import IMAGE_SUFFIXES


class UnscoredImage(NamedTuple):
    """An image, as a path below the image folder, the prompt it was made from, and the pair's id."""

    pair_id: str
    prompt: str
    file_name: str


def rated_images(
    benchmark: Benchmark, annotations: Path, rated: str | None = None, needs_prompts: bool = True
) -> list[UnscoredImage]:
    """The images that people rated, see `dyneval.evaluation.benchmarks.base.load`.

    Args:
        benchmark: whose images.
        annotations: its file or folder.
        rated: name of the rating; None takes the benchmark's first.
        needs_prompts: False for metrics that read no prompt; an image without one then has the prompt "".

    Raises:
        LayoutError: the annotations cannot be used, or do not hold the prompts.
        RatingError: no image has a rating.
    """
    items = load(benchmark, annotations, rated).items
    if not items:
        raise RatingError(f"{benchmark.title}: no image has a rating")
    # Only scoring needs prompts; a benchmark that does not publish them can still be compared with.
    nameless = sum(item.prompt is None for item in items)
    if nameless and needs_prompts:
        raise LayoutError(
            f"{annotations}: {nameless} images come without their prompt, which scoring needs\n"
            f"expected: {benchmark.layout}"
        )
    if not benchmark.fields[rated or next(iter(benchmark.fields))].is_preference:
        return [UnscoredImage(item.item_id, item.prompt or "", item.image) for item in items]
    # An image may be in many groups and is scored once; the score finds all of them by its path.
    return [
        UnscoredImage(image, prompt, image) for image, prompt in dict.fromkeys((i.image, i.prompt or "") for i in items)
    ]


def drawn_images(prompts: Path, images: Path) -> list[UnscoredImage]:
    """The images that each T2I model (a folder of `images`) drew of the prompts in a list; missing ones are gaps.

    An image is called as the prompt list says (`filename`, or its `id` or `gid` as four digits), with any suffix of an
    image.

    Raises:
        SettingError: there are none.
        DataFileError: one image is there in two forms.
    """
    found = []
    entries = read_prompts(prompts)
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        present: dict[str, str] = {}
        for path in folder.iterdir():
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            # a.png and a.jpg may both be image a; taking either would be a guess.
            if (other := present.setdefault(path.stem, path.name)) != path.name:
                raise DataFileError(
                    f"{folder}: {other} and {path.name} may both be image {path.stem}; keep one of them"
                )
        for number, entry in enumerate(entries):
            stem = Path(entry.file_name).stem if entry.file_name else f"{number:04d}"
            if stem in present:
                found.append(UnscoredImage(f"{folder.name}/{stem}", entry.prompt, f"{folder.name}/{present[stem]}"))
    if not found:
        raise SettingError(f"{images}: holds no folder with images of the prompts in {prompts}")
    return found
