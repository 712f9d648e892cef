"""Compares the user's own images, as DynEval shows them to a model, with qwen-vl-utils and transformers' processor.

DynEval resizes images with Pillow and needs no torchvision. A student is trained on these pixels and may be served by a
program that uses the other two, so a difference has to be known before training.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from dyneval.errors import ImageError
from dyneval.files.images import load_image, resolve_below
from dyneval.processing import Processor
from qwenvl.data import DatasetSource
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.image_folder import image_names
from qwenvl.preflight import CheckResult

COMPARED = 16
"""Images that are compared, from the beginning of the file."""
_TOLERANCE = 0.06
"""Of normalised values, where one of 255 grey levels is 0.0078. Pillow and torchvision resize most images alike within
two levels, one of 100x1500 pixels within five."""


def check_pixels(
    name: str, source: DatasetSource, annotations: AnnotationFile, processor: Processor, model: str
) -> CheckResult:
    """Compare grids and pixels, where the other two can be imported: both need torchvision.

    Args:
        name: of the dataset, for the title of the finding.
        source: its files; images that cannot be read are passed over, since another check reports them.
        annotations: its entries.
        processor: DynEval's, with the pixel limits of the run.
        model: checkpoint whose own image processor is compared with.
    """
    title = f"{name}: pixels"
    try:
        import qwen_vl_utils
        import torchvision  # noqa: F401
        from transformers import AutoImageProcessor
    except ImportError as error:
        return CheckResult(
            name=title, status="note", message=f"not compared with qwen-vl-utils and transformers ({error})"
        )
    limits = {"shortest_edge": processor.min_pixels, "longest_edge": processor.max_pixels}
    library: Any = AutoImageProcessor.from_pretrained(model, size=limits, trust_remote_code=False)
    told, count, largest = [], 0, 0.0
    for image_name in islice(dict.fromkeys(image_names(annotations)), COMPARED):
        try:
            path = resolve_below(source.data, image_name)
            ours = processor.image_processor(images=[load_image(path)], return_tensors="pt")
        except ImageError:
            continue  # the check of the images reports it
        count += 1
        asked = {"image": str(path), "min_pixels": processor.min_pixels, "max_pixels": processor.max_pixels}
        # qwen-vl-utils resizes and leaves the normalisation to the processor, which must not resize again.
        resized = qwen_vl_utils.fetch_image(asked, image_patch_size=processor.image_processor.patch_size)
        for other, image, options in (
            (type(library).__name__, load_image(path), {}),
            ("qwen-vl-utils", resized, {"do_resize": False}),
        ):
            theirs = library(images=[image], return_tensors="pt", **options)
            grids = [one["image_grid_thw"].tolist()[0] for one in (ours, theirs)]
            if grids[0] != grids[1]:
                told.append(f"{image_name}: a grid of {grids[0]}, by {other} {grids[1]}")
                continue
            difference = float((ours["pixel_values"] - theirs["pixel_values"]).abs().max())
            largest = max(largest, difference)
            if difference > _TOLERANCE:
                told.append(f"{image_name}: pixels differ by {difference:.3f} from those of {other}")
    details = {"compared": count, "largest_difference": round(largest, 4), "differences": told[:20]}
    if told:
        message = f"{len(told)} differences in {count} images; first: {told[0]}"
        return CheckResult(name=title, status="warning", message=message, details=details)
    message = (
        f"{count} images: grids equal those of qwen-vl-utils and {type(library).__name__}, pixels within {largest:.4f}"
    )
    return CheckResult(name=title, status="ok", message=message, details=details)
