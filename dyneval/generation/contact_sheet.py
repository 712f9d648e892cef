"""One picture that shows a GenDB at a glance: a row for each model, a column for each category.

`dyneval gendb contact-sheet` and `dyneval generate --contact-sheet` draw it, so that a person sees in seconds whether a
model draws rubbish. It goes by the index; only the images that are shown are opened.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
from PIL import Image, ImageDraw, ImageFont

from dyneval.errors import GenerationError, ImageError
from dyneval.files import images
from dyneval.files.atomic import atomic_write
from dyneval.generation.curating import by_category
from dyneval.generation.exporting import ExportCounts
from dyneval.generation.index import ALL, Index, Selection

THUMBNAIL = 128
LABEL_WIDTH = 150
HEADER_HEIGHT = 64
FONT_SIZE = 13

UNTIERED = 4
"""Rank of a model whose tier nobody knows: behind the tiers 1 to 3."""
CANDIDATES = 8
"""So many pairs are kept for a cell, so that a model shows different images where it can."""


def draw_contact_sheet(folder: Path, output: Path, selection: Selection = ALL) -> ExportCounts:
    """Draw the sheet: models by tier downwards, categories by name to the right.

    Of several images the sheet takes one that the model does not show elsewhere. An image that cannot be read is left
    out and counted.

    Args:
        folder: the GenDB.
        output: picture to write, .png or .webp.
        selection: which pairs may be shown.

    Returns:
        Images that are on the sheet, and those that could not be read.

    Raises:
        GenerationError: no pair is selected, the sheet would be too large, or `output` has another ending.
        DataFileError: `folder` has no metadata.jsonl.
    """
    form = {".png": "PNG", ".webp": "WEBP"}.get(output.suffix.lower())
    if form is None:
        raise GenerationError(f"{output}: a contact sheet is a .png or a .webp file")
    index = Index(folder)
    counts = ExportCounts(shards=1, rejected=index.rejected)
    # A row for each model and category: the lowest tier of its pairs, and the files of the first pairs by id.
    first = pl.col("file_name").sort_by("pair_id").head(CANDIDATES)
    cells = by_category(index.frame(selection)).group_by("generation_model", "category")
    (found,) = selection.collect(cells.agg(pl.col("tier").min(), first))
    rows: list[tuple[str, str, int | None, list[str]]] = found.rows()

    tiers: dict[str, int] = {}
    for model, _, tier, _ in rows:  # with --any-tier a model draws prompts of several tiers: its first one counts
        tiers[model] = min(tiers.get(model, UNTIERED), UNTIERED if tier is None else tier)
    models = sorted(tiers, key=lambda model: (tiers[model], model))
    categories = sorted({category for _, category, _, _ in rows})
    size = LABEL_WIDTH + len(categories) * THUMBNAIL, HEADER_HEIGHT + len(models) * THUMBNAIL
    if size[0] * size[1] > images.MAX_PIXELS:
        raise GenerationError(
            f"a sheet of {len(models)} models and {len(categories)} categories would have {size[0]}x{size[1]} pixels"
        )
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, model in enumerate(models):
        _write(pen, model, (6, HEADER_HEIGHT + row * THUMBNAIL + THUMBNAIL // 2 - 16), LABEL_WIDTH - 10)
    for column, category in enumerate(categories):
        _write(pen, category, (LABEL_WIDTH + column * THUMBNAIL + 4, 8), THUMBNAIL - 8)

    shown: set[str] = set()
    # Cells with the fewest images choose first: one that has a single image must not find it taken by a cell of many.
    for model, category, _, files in sorted(rows, key=lambda row: (len(row[3]), row[0], row[1])):
        file_name = next((name for name in files if name not in shown), files[0])
        shown.add(file_name)
        try:
            image = images.load_image(file_name, folder)
        except ImageError:
            counts.rejected += 1
            continue
        image.thumbnail((THUMBNAIL - 4, THUMBNAIL - 4))
        left = LABEL_WIDTH + categories.index(category) * THUMBNAIL + (THUMBNAIL - image.width) // 2
        top = HEADER_HEIGHT + models.index(model) * THUMBNAIL + (THUMBNAIL - image.height) // 2
        sheet.paste(image, (left, top))
        counts.written += 1
    with atomic_write(output, "wb") as file:
        sheet.save(file, format=form)
    return counts


def _write(pen: ImageDraw.ImageDraw, text: str, at: tuple[int, int], width: int) -> None:
    """Write `text` into at most three lines of `width` pixels, broken after words, hyphens and underscores."""
    font = ImageFont.load_default(FONT_SIZE)
    lines, line = [], ""
    for word in re.findall(r"[^\s_-]*[\s_-]*", text):
        if line and font.getlength((line + word).rstrip()) > width:
            lines.append(line)
            line = ""
        line += word
    pen.multiline_text(at, "\n".join([*lines, line][:3]), fill="black", font=font, spacing=2)
