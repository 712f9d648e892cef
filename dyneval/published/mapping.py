"""Reads and writes the mapping of the public data set: one JSON file that lists all pairs.

DYNEVAL-250K-PROMPTS.json   {"prompts": [{pair_id, text_id, prompt, image_path, questions_file, response_file,
                            generation_model}]}, paths relative to the file's own folder

Only pair_id and prompt are always there. A mapping says less of a pair than GenDB does: no seed, no settings, no
categories; the tier follows from the model, where that is known. What it lacks is read from the images themselves.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from dyneval.errors import DataFileError, ImageError, SchemaError
from dyneval.files.atomic import atomic_write, read_json
from dyneval.files.image_root import folder_above
from dyneval.files.images import load_image, resolve_below
from dyneval.files.store import JsonlStore
from dyneval.hashing import file_sha256
from dyneval.model_table import model_key
from dyneval.records import PairRecord, Reject, RejectKind, Tier

logger = logging.getLogger(__name__)

MAPPING = "DYNEVAL-250K-PROMPTS.json"
"""Published name of the file."""
UNKNOWN_MODEL = "unknown"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingEntry:
    """A pair in a mapping; a field that is not given is an empty text.

    Attributes:
        pair_id: of the pair, and the name of its annotation files.
        text_id: of the prompt.
        prompt: the prompt.
        image_path: relative to the mapping's folder.
        questions_file: its T2IA questions.
        response_file: its T2IA answers.
        generation_model: that made the image.
    """

    pair_id: str
    text_id: str
    prompt: str
    image_path: str = ""
    questions_file: str = ""
    response_file: str = ""
    generation_model: str = UNKNOWN_MODEL


class UnusableEntry(NamedTuple):
    """An entry of a mapping that is no pair.

    Attributes:
        name: its pair_id, or its place.
        reason: why it cannot be used.
    """

    name: str
    reason: str


def read_mapping(path: Path) -> tuple[list[MappingEntry], list[UnusableEntry]]:
    """Read a mapping file; return its pairs, and the unusable entries. Raises DataFileError when it is no mapping."""
    value = read_json(path)
    rows = value.get("prompts") if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise DataFileError(f'{path}: expected {{"prompts": [...]}}, as in the published {MAPPING}')
    # One bad entry does not stop an import of 250,000 pairs: it is reported and left out.
    entries: dict[str, MappingEntry] = {}
    unusable: list[UnusableEntry] = []
    for number, row in enumerate(rows):
        where = f"{path}, entry {number}"
        try:
            entry = _entry(row)
        except ValueError as error:
            name = row.get("pair_id") if isinstance(row, dict) else None
            unusable.append(UnusableEntry(str(name or f"entry {number}"), f"{where}: {error}"))
            continue
        if entry.pair_id in entries:
            unusable.append(
                UnusableEntry(entry.pair_id, f"{where}: this pair_id stands there twice; the first is taken")
            )
        else:
            entries[entry.pair_id] = entry
    return list(entries.values()), unusable


def _entry(row: Any) -> MappingEntry:
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    values = {field.name: _text(row, field.name) for field in fields(MappingEntry)}
    missing = [name for name in ("pair_id", "prompt") if not values[name]]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing or empty")
    # The pair_id becomes a file name, in our folders and in those of the mapping.
    if not _FILE_NAME.fullmatch(values["pair_id"]):
        raise ValueError(f"pair_id {values['pair_id'][:80]!r}: expected letters, digits, '.', '_' and '-'")
    values["text_id"] = values["text_id"] or values["pair_id"]
    values["generation_model"] = values["generation_model"] or UNKNOWN_MODEL
    return MappingEntry(**values)


def _text(row: dict[str, Any], name: str) -> str:
    """A field as text without blanks around it. Numbers serve as ids; a field that is null or absent is empty."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name}: expected a text, found {type(value).__name__}")
    text = str(value).strip()
    text.encode("utf-8")  # raises ValueError on half a surrogate pair, which JSON can write and UTF-8 cannot
    return text


def entry_of(pair: PairRecord, questions_file: str = "", response_file: str = "") -> MappingEntry:
    """Return the entry of a pair of GenDB; the two files are relative to the mapping's folder."""
    return MappingEntry(
        pair_id=pair.pair_id,
        text_id=pair.prompt_id,
        prompt=pair.prompt,
        image_path=pair.file_name,
        questions_file=questions_file,
        response_file=response_file,
        generation_model=pair.generation_model,
    )


def write_mapping(path: Path, entries: Iterable[MappingEntry]) -> int:
    """Write a mapping, entry by entry as they come, so that a million pairs need no memory; return their number."""
    written = 0
    # By hand: json.dump would want the list of all entries at once.
    with atomic_write(path) as file:
        file.write('{"prompts": [')
        for entry in entries:
            row = {name: value for name, value in asdict(entry).items() if value}
            file.write((",\n" if written else "\n") + json.dumps(row, ensure_ascii=False))
            written += 1
        file.write("\n]}\n")
    return written


@dataclass(frozen=True, slots=True)
class PairMaker:
    """Makes pairs of GenDB from entries of a mapping, whose images it reads.

    Attributes:
        images: folder that the image paths are relative to; none may lead out of it.
        tiers: tier of every model, as `model_table.tiers` gives them.
        default_tier: tier of pairs whose model is none of these.
    """

    images: Path
    tiers: Mapping[str, Tier]
    default_tier: Tier | None = None

    def pair(self, entry: MappingEntry, prompt_id: str | None = None) -> PairRecord:
        """Return the pair of an entry. Its image is decoded, so that a broken one is found here.

        Args:
            entry: of the mapping.
            prompt_id: where it is not the entry's text_id.

        Raises:
            ImageError, SchemaError: the entry cannot be used; the message names it.
        """
        if not entry.image_path:
            raise ImageError(f"{entry.pair_id}: image_path missing or empty")
        path = resolve_below(self.images, entry.image_path)
        try:
            image = load_image(path)
        except ImageError as error:
            # A slip that is easy to make: --images names the folder that the paths begin with, not the one above it.
            right = folder_above(self.images, entry.image_path)
            hint = f"; its path begins with the folder's own name: the image folder is {right}" if right else ""
            raise ImageError(f"{error}{hint}") from error
        row: dict[str, Any] = {
            "pair_id": entry.pair_id,
            "file_name": entry.image_path,
            "prompt_id": prompt_id or entry.text_id,
            "prompt": entry.prompt,
            "categories": [],
            "generation_model": entry.generation_model,
            "width": image.width,
            "height": image.height,
            "settings": {"family": "external"},
            # Of the file as it is today: annotations are compared with it from here on.
            "sha256": file_sha256(path),
        }
        tier = self.tiers.get(model_key(entry.generation_model), self.default_tier)
        return PairRecord.from_dict(row if tier is None else {**row, "tier": tier}, entry.pair_id)


@contextmanager
def open_metadata(folder: Path, keep_rejects: bool = False) -> Iterator[JsonlStore[PairRecord]]:
    """Open the metadata.jsonl of an image folder to add pairs to it. A file without pairs is removed again.

    Raises:
        DataFileError: there is no such folder, or another process writes to the file.
    """
    if not folder.is_dir():
        raise DataFileError(f"{folder}: no such folder; it should hold the images that the mapping names")
    path = folder / "metadata.jsonl"
    with JsonlStore(path, PairRecord, keep_rejects=keep_rejects) as store:
        # Opening the store makes the file. Left behind empty, it would look like a GenDB to every later step.
        try:
            yield store
        finally:
            if path.stat().st_size == 0:
                path.unlink()


def add_pairs(mapping: Path, maker: PairMaker) -> tuple[int, int]:
    """Add the pairs of a mapping to the metadata.jsonl of its image folder, except those that are there already.

    Entries that cannot be used go to the rejects.

    Args:
        mapping: the mapping file.
        maker: knows the image folder and the tiers.

    Returns:
        Pairs added, and rejected.

    Raises:
        DataFileError: a file cannot be read, or another process writes to metadata.jsonl.
    """
    entries, unusable = read_mapping(mapping)
    with open_metadata(maker.images) as store:
        for name, reason in unusable:
            store.reject(Reject(key=name, kind="row", reason=reason))
        for entry in entries:
            if entry.pair_id in store.done:
                continue
            try:
                store.append(maker.pair(entry))
            except (ImageError, SchemaError) as error:
                kind: RejectKind = "image" if isinstance(error, ImageError) else "row"
                store.reject(Reject(key=entry.pair_id, kind=kind, reason=str(error)))
                logger.warning("%s", error)
        return store.written, store.rejected
