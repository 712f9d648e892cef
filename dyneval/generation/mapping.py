"""GenDB from and to the published mapping file, {"prompts": [{pair_id, text_id, prompt, image_path, ...}]}.

A mapping knows less than GenDB: neither seed nor settings, tier nor categories. The tier follows from the model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dyneval import images, storage
from dyneval.generation.exporting import Counts, read_records
from dyneval.generation.model import GenerationError
from dyneval.records import PairRecord, Tier
from dyneval.schemas import SchemaError

log = logging.getLogger(__name__)

FIELDS = ("pair_id", "text_id", "prompt", "image_path", "generation_model")


def write_mapping(folder: Path, output: Path) -> Counts:
    """Write the pairs of a GenDB as a mapping of the T2IA annotations that Step 3 makes of them.

    Raises:
        DataFileError: `folder` has no metadata.jsonl.
    """
    counts = Counts(shards=1)
    with storage.atomic_write(output) as file:
        file.write('{"prompts": [')
        for record in read_records(folder, counts):  # written as they are read: a million pairs need no memory
            file.write(",\n" if counts.written else "\n")
            file.write(json.dumps(_mapping_row(record), ensure_ascii=False))
            counts.written += 1
        file.write("\n]}\n")
    return counts


def _mapping_row(record: PairRecord) -> dict[str, str]:
    return {
        "pair_id": record.pair_id,
        "text_id": record.prompt_id,
        "prompt": record.prompt,
        "image_path": record.file_name,
        "questions_file": f"T2IA/questions/{record.pair_id}.json",
        "response_file": f"T2IA/answers/{record.pair_id}.json",
        "generation_model": record.generation_model,
    }


def read_mapping(path: Path, folder: Path, tiers: Mapping[str, Tier], default_tier: Tier | None = None) -> Counts:
    """Make `folder`, which holds the images of a mapping, a GenDB: write its metadata.jsonl.

    Pairs that are in it already are passed over. Entries that cannot be used go to the rejects.

    Args:
        path: the mapping.
        folder: where its image paths begin; none may lead out of it.
        tiers: tier of every model, by slug and by name, in lower case.
        default_tier: tier of pairs whose model is none of these; without one they are rejects.

    Raises:
        GenerationError: `path` is no mapping.
        DataFileError: a file cannot be read, or another process writes to metadata.jsonl.
    """
    value = storage.read_json(path)
    entries = value.get("prompts") if isinstance(value, dict) else None
    if not isinstance(entries, list):
        raise GenerationError(f'{path}: expected {{"prompts": [...]}}')
    with storage.JsonlStore(folder / "metadata.jsonl", "pair_id") as store:
        for number, entry in enumerate(entries):
            _add(store, folder, entry, f"{path}, entry {number}", tiers, default_tier)
        return Counts(written=store.written, rejected=store.rejected, shards=1)


def _add(
    store: storage.JsonlStore,
    folder: Path,
    entry: Any,
    where: str,
    tiers: Mapping[str, Tier],
    default_tier: Tier | None,
) -> None:
    pair_id = str(entry.get("pair_id")) if isinstance(entry, dict) else where
    if pair_id in store.done:
        return
    try:
        store.append(_record(folder, entry, where, tiers, default_tier).to_dict())
    except (GenerationError, SchemaError, images.ImageError) as error:
        store.reject(pair_id, str(error))
        log.warning("%s", error)


def _record(folder: Path, entry: Any, where: str, tiers: Mapping[str, Tier], default_tier: Tier | None) -> PairRecord:
    values = _texts(entry, where, FIELDS)
    tier = tiers.get(values["generation_model"].casefold(), default_tier)
    if tier is None:
        raise GenerationError(f"{where}: the model {values['generation_model']!r} has no known tier; pass --tier")
    path = images.resolve_below(folder, values["image_path"])
    image = images.load_image(path)
    row: dict[str, Any] = {
        "file_name": values["image_path"],
        "pair_id": values["pair_id"],
        "prompt_id": values["text_id"],
        "prompt": values["prompt"],
        "tier": tier,
        "categories": [],
        "generation_model": values["generation_model"],
        "width": image.width,
        "height": image.height,
        "settings": {"source": "published mapping"},
        "sha256": images.sha256(path),
    }
    return PairRecord.from_dict(row, where)


def _texts(entry: Any, where: str, names: Iterable[str]) -> dict[str, str]:
    """The fields of an entry as text; ids may be whole numbers. Raises GenerationError when one is missing."""
    if not isinstance(entry, dict):
        raise GenerationError(f"{where}: expected an object")
    values = {name: str(entry[name]) if type(entry.get(name)) is int else entry.get(name) for name in names}
    wrong = [name for name, value in values.items() if not isinstance(value, str) or not value.strip()]
    if wrong:
        raise GenerationError(f"{where}: {', '.join(wrong)} missing or no text")
    return values  # type: ignore[return-value]
