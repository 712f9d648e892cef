"""The images of a report: an index for the page, thumbnails, and questions, answers and scene graphs in small files.

A report of up to `INLINE` images carries everything in itself. A larger one keeps thumbnails and details in a folder
beside it, as pictures and scripts, since a page opened from disk may load those and nothing else.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dyneval.errors import ImageError
from dyneval.evaluation.report.base import rounded
from dyneval.evaluation.scores import read_records
from dyneval.files.atomic import atomic_write
from dyneval.files.images import file_version, webp_thumbnail
from dyneval.hashing import short_id
from dyneval.records import SceneGraph, ScoreRecord
from dyneval.structs import Row
from dyneval.work import processes, progress

logger = logging.getLogger(__name__)

INLINE = 200
"""Images that a report carries in itself; a folder beside it holds more."""
SHARD = 200
"""Images whose details stand in one file."""
# Thumbnails that a process makes at a time; starting a process for fewer costs more than it saves.
_CHUNK = 16
THUMBNAIL = 384
"""Longest side of a thumbnail, pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryImage:
    """One image of the gallery; scores are 1-5, `rating` is the raters' mean on their own scale.

    `address`: what the page calls it, where its pair_id is not unique.
    """

    pair_id: str
    model: str
    tier: int | None
    prompt: str
    categories: tuple[str, ...]
    image: str
    t2ia: float | None
    iqa: float | None
    overall: float
    rating: float | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the page needs: `index` for its script, and the images that could not be read, by pair_id."""

    index: Row
    unreadable: dict[str, str]


def build_gallery(
    entries: Sequence[GalleryImage],
    sources: Sequence[Path],
    images: Path,
    page: Path,
    *,
    thumbnail: int = THUMBNAIL,
    workers: int = 1,
) -> Gallery:
    """Make thumbnails and details, and the index of them.

    Args:
        entries: in the order of the records in `sources`.
        sources: the files of ScoreRecords.
        images: the folder that the image paths are relative to.
        page: where the report will stand; `<stem>_files` beside it holds what it does not carry itself.
        thumbnail: longest side in pixels.
        workers: processes that make thumbnails.
    """
    inline = len(entries) <= INLINE
    folder = page.with_name(f"{page.stem}_files")
    thumbs, unreadable = _thumbnails(entries, images, None if inline else folder / "thumbs", thumbnail, workers)
    details = _details(entries, sources, None if inline else folder / "details")
    index = _index(entries, thumbs) | {
        "folder": folder.name,
        "shard": SHARD,
        "details": details,
        "inline": inline,
    }
    if unreadable:
        logger.warning("%d images could not be read and are shown as gaps", len(unreadable))
    return Gallery(index, unreadable)


def disagreement(entries: Sequence[GalleryImage]) -> list[int | None]:
    """How far apart raters and evaluator place an image, in percent of the rated images; None without a rating."""
    from scipy.stats import rankdata

    rated = [number for number, entry in enumerate(entries) if entry.rating is not None]
    found: list[int | None] = [None] * len(entries)
    if len(rated) > 1:
        scores = rankdata([entries[number].overall for number in rated])
        ratings = rankdata([entries[number].rating for number in rated])
        for number, apart in zip(rated, np.abs(scores - ratings) / len(rated), strict=True):
            found[number] = round(float(apart) * 100)
    return found


def _index(entries: Sequence[GalleryImage], thumbs: Sequence[str]) -> Row:
    """The index for the page's script, as columns: 36,000 images take 3 MB, as rows they would repeat every name."""
    # Each name once, numbered in the order of first appearance; the columns hold numbers.
    models: dict[str, int] = {}
    prompts: dict[str, int] = {}
    categories: dict[str, int] = {}
    tiers: dict[str, int | None] = {}
    skills: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        models.setdefault(entry.model, len(models))
        prompts.setdefault(entry.prompt, len(prompts))
        tiers[entry.model] = entry.tier
        skills[entry.prompt] = entry.categories
    for prompt in prompts:
        for name in skills[prompt]:
            categories.setdefault(name, len(categories))
    columns: dict[str, list[Any]] = {
        "id": [entry.address or entry.pair_id for entry in entries],
        "model": [models[entry.model] for entry in entries],
        "prompt": [prompts[entry.prompt] for entry in entries],
        "overall": [rounded(entry.overall, 2) for entry in entries],
        "t2ia": [rounded(entry.t2ia, 2) for entry in entries],
        "iqa": [rounded(entry.iqa, 2) for entry in entries],
        "thumb": list(thumbs),
    }
    if any(entry.rating is not None for entry in entries):
        columns["rating"] = [rounded(entry.rating, 2) for entry in entries]
        columns["apart"] = disagreement(entries)
    return {
        "models": list(models),
        "tiers": [tiers[name] for name in models],
        "prompts": list(prompts),
        "skills": [[categories[name] for name in skills[prompt]] for prompt in prompts],
        "categories": list(categories),
        "columns": columns,
    }


def _details(entries: Sequence[GalleryImage], sources: Sequence[Path], folder: Path | None) -> list[Any] | None:
    """Questions and scene graph of every image: a list for the page, or None after writing them to files."""
    wanted = {entry.pair_id for entry in entries}
    records = (record for source in sources for record in read_records(source) if record.pair_id in wanted)
    details = map(_detail, records)
    if folder is None:
        return list(details)
    # One file at a time: the details of a million images do not fit into memory.
    shards = iter(lambda: list(islice(details, SHARD)), [])
    for number, shard in enumerate(shards):
        # A page that was opened from disk may load scripts but read no files, so each shard is a call of a function.
        with atomic_write(folder / f"{number}.js") as file:
            file.write(f"dynevalDetails({number},{script_json(shard)});\n")
    return None


def _detail(record: ScoreRecord) -> Row:
    """Scene graph, and each question with target answer, score, reasoning, and whether it only passes or fails."""
    t2ia, iqa = (
        [
            [one.question, one.answer, one.score, one.reasoning, one.correct_probability is not None]
            for one in questions or []
        ]
        for questions in (record.t2ia_questions, record.iqa_questions)
    )
    return {"t2ia": t2ia, "iqa": iqa, "graph": record.scene_graph or SceneGraph(nodes=(), edges=())}


def _thumbnails(
    entries: Sequence[GalleryImage], images: Path, folder: Path | None, size: int, workers: int
) -> tuple[list[str], dict[str, str]]:
    """Return what the page shows for each image (data URL, name below the folder, or ""), and what is unreadable.

    Those in the folder from a run before are not made again, be that run finished or not.
    """
    jobs = [(entry.image, images, folder, size) for entry in entries]
    workers = min(workers, -(-len(jobs) // _CHUNK))
    bar = progress.bar("thumbnails", len(jobs), "image")
    with bar, ProcessPoolExecutor(workers, initializer=processes.end_with_parent, initargs=(os.getpid(),)) as pool:
        made = pool.map(_thumbnail, jobs, chunksize=_CHUNK) if workers > 1 else map(_thumbnail, jobs)
        shown, unreadable = [], {}
        for entry, (name, problem) in zip(entries, bar.over(made), strict=True):
            shown.append(name)
            if problem:
                unreadable[entry.address or entry.pair_id] = problem
    if folder is not None:
        # Thumbnails of images that have changed or gone, and what a killed run was writing.
        names = set(shown)
        for path in folder.glob("*/*"):
            if path.name.removesuffix(".webp") not in names:
                path.unlink()
    return shown, unreadable


def _thumbnail(job: tuple[str, Path, Path | None, int]) -> tuple[str, str | None]:
    image, root, folder, size = job
    try:
        if folder is None:
            return "data:image/webp;base64," + base64.b64encode(webp_thumbnail(image, root, size)[0]).decode(), None
        name = short_id(f"{image} {size} {file_version(root / image)}")
        path = folder / name[:2] / f"{name}.webp"
        if not path.exists():
            data, _ = webp_thumbnail(image, root, size)
            path.parent.mkdir(parents=True, exist_ok=True)
            # A temporary name first. It is not flushed to disk as `atomic_write` does: a thumbnail can be made again.
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        return name, None
    except ImageError as error:
        return "", str(error)


def script_json(value: Any) -> str:
    """Return JSON that may stand in a script: nothing in it can end the element or a line."""
    # "<" could begin "</script>"; U+2028 and U+2029 end a line in older JavaScript.
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
