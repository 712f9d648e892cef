"""A picture to look at: one image for each model and category of a GenDB, in rows and columns."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
"""Where models whose tier nobody knows stand: behind the others."""
CANDIDATES = 8
"""So many pairs are kept for a cell, so that a model shows different images where it can."""

Candidates = tuple[str, str, int | None, list[str]]
"""Model, category, tier, and files that may stand for them."""


def draw_contact_sheet(folder: Path, output: Path, selection: Selection = ALL) -> ExportCounts:
    """Draw the sheet as `output` (.png or .webp): models by tier downwards, categories by name to the right.

    Of several images one that the model does not show elsewhere is taken. What cannot be read is left out and counted.

    Raises:
        GenerationError: no pair is meant, the sheet would be too large, or `output` has another ending.
        DataFileError: `folder` has no metadata.jsonl.
    """
    form = {".png": "PNG", ".webp": "WEBP"}.get(output.suffix.lower())
    if form is None:
        raise GenerationError(f"{output}: a contact sheet is a .png or a .webp file")
    index = Index(folder)
    counts = ExportCounts(shards=1, rejected=index.rejected)
    rows = _candidates(index, selection)
    tiers: dict[str, int] = {}  # a model may have drawn prompts of several: its first counts
    for model, _, tier, _ in rows:
        tiers[model] = min(tiers.get(model, UNTIERED), UNTIERED if tier is None else tier)
    models = sorted(tiers, key=lambda model: (tiers[model], model))
    categories = sorted({category for _, category, _, _ in rows})
    sheet = Image.new("RGB", _size(len(models), len(categories)), "white")
    _label(sheet, models, categories)
    for (model, category), file_name in _choose(rows).items():
        column = categories.index(category)
        counts.written += _paste(sheet, folder, file_name, column, models.index(model), counts)
    with atomic_write(output, "wb") as file:
        sheet.save(file, format=form)
    return counts


def _candidates(index: Index, selection: Selection) -> list[Candidates]:
    """For each model and category the files of the first pairs by id."""
    first = pl.col("file_name").sort_by("pair_id").head(CANDIDATES)
    cells = by_category(index.frame(selection)).group_by("generation_model", "category")
    (found,) = selection.collect(cells.agg(pl.col("tier").min(), first))
    return found.rows()


def _choose(rows: Iterable[Candidates]) -> dict[tuple[str, str], str]:
    """A file for each cell; the cells with the least choice choose first."""
    cells: dict[tuple[str, str], str] = {}
    shown: set[str] = set()
    for model, category, _, files in sorted(rows, key=lambda row: (len(row[3]), row[0], row[1])):
        cells[model, category] = next((name for name in files if name not in shown), files[0])
        shown.add(cells[model, category])
    return cells


def _size(rows: int, columns: int) -> tuple[int, int]:
    size = LABEL_WIDTH + columns * THUMBNAIL, HEADER_HEIGHT + rows * THUMBNAIL
    if size[0] * size[1] > images.MAX_PIXELS:
        raise GenerationError(
            f"a sheet of {rows} models and {columns} categories would have {size[0]}x{size[1]} pixels"
        )
    return size


def _label(sheet: Image.Image, models: list[str], categories: list[str]) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for row, model in enumerate(models):
        _write(pen, font, model, (6, HEADER_HEIGHT + row * THUMBNAIL + THUMBNAIL // 2 - 16), LABEL_WIDTH - 10)
    for column, category in enumerate(categories):
        _write(pen, font, category, (LABEL_WIDTH + column * THUMBNAIL + 4, 8), THUMBNAIL - 8)


def _write(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    text: str,
    at: tuple[int, int],
    width: int,
) -> None:
    """Write `text` into at most three lines of `width` pixels, broken after words, hyphens and underscores."""
    lines, line = [], ""
    for word in re.findall(r"[^\s_-]*[\s_-]*", text):
        if line and font.getlength((line + word).rstrip()) > width:
            lines.append(line)
            line = ""
        line += word
    pen.multiline_text(at, "\n".join([*lines, line][:3]), fill="black", font=font, spacing=2)


def _paste(sheet: Image.Image, folder: Path, file_name: str, column: int, row: int, counts: ExportCounts) -> bool:
    try:
        image = images.load_image(file_name, folder)
    except ImageError:
        counts.rejected += 1
        return False
    image.thumbnail((THUMBNAIL - 4, THUMBNAIL - 4))
    left = LABEL_WIDTH + column * THUMBNAIL + (THUMBNAIL - image.width) // 2
    sheet.paste(image, (left, HEADER_HEIGHT + row * THUMBNAIL + (THUMBNAIL - image.height) // 2))
    return True
