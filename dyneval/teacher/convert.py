"""Conversion between our annotation files and the published form, both ways, counted."""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyneval.images import ImageError, load_image, resolve_below, sha256, stored_size
from dyneval.records import IQAAnswers, IQAQuestions, PairRecord, T2IAAnswers, T2IAQuestions
from dyneval.schemas import SchemaError
from dyneval.storage import DataFileError, JsonlIndex, JsonlStore, atomic_write
from dyneval.teacher import published
from dyneval.teacher.annotating import KEYS
from dyneval.teacher.pairs import read_pairs
from dyneval.teacher.published import MAPPINGS, Entry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """What is imported.

    Attributes:
        published: folder of t2ia_mapping.json and iqa_mapping.json.
        images: folder that the mappings' image paths are relative to.
        output: folder of our annotation files.
        models: table with the columns slug, name and tier of the T2I models; used where `images` has no metadata.jsonl.
    """

    published: Path
    images: Path
    output: Path
    models: Path


def import_published(config: ImportConfig) -> dict[str, int]:
    """Read the published files of every pair into our four annotation files, and write metadata.jsonl where it lacks.

    Pairs that are there already are passed over. Files that cannot be used go to the rejects.

    Returns:
        Counts: pairs, records by workflow, `iqa_scores_from_correct`, rejected.

    Raises:
        DataFileError: a mapping is missing or unusable.
    """
    entries = {kind: published.read_mapping(config.published / name) for kind, name in MAPPINGS.items()}
    counts: Counter[str] = Counter()
    if not (config.images / "metadata.jsonl").exists():
        _write_metadata(config, entries["t2ia"], counts)
    with ExitStack() as stack:
        stores = {
            name: stack.enter_context(JsonlStore(config.output / f"{name}.jsonl", key)) for name, key in KEYS.items()
        }
        for entry in entries["t2ia"]:
            _import_t2ia(config.published, entry, stores, counts)
        for entry in entries["iqa"]:
            _import_iqa(config.published, entry, stores, counts)
    return dict(counts)


def export_published(metadata: Path, annotations: Path, output: Path) -> dict[str, int]:
    """Write our annotations in the published form; pairs without them are counted.

    Raises:
        DataFileError: a file is missing.
    """
    counts: Counter[str] = Counter()
    writer = published.Writer(output)

    def report(name: str, reason: str) -> None:
        counts["rejected"] += 1
        logger.warning("%s: %s", name, reason)

    with ExitStack() as stack:
        files = {name: JsonlIndex(annotations / f"{name}.jsonl", key) for name, key in KEYS.items()}
        for file in files.values():
            stack.callback(file.close)
        for pair in read_pairs(metadata, report):
            asked, scored = files["t2ia_questions"].get(pair.prompt_id), files["t2ia_answers"].get(pair.pair_id)
            parsed, judged = files["iqa_questions"].get(pair.pair_id), files["iqa_answers"].get(pair.pair_id)
            if asked and scored:
                writer.add_t2ia(pair, T2IAQuestions.from_dict(asked), T2IAAnswers.from_dict(scored))
            if parsed and judged:
                writer.add_iqa(pair, IQAQuestions.from_dict(parsed), IQAAnswers.from_dict(judged))
            counts["t2ia"] += bool(asked and scored)
            counts["iqa"] += bool(parsed and judged)
            counts["incomplete"] += not (asked and scored and parsed and judged)
    writer.close()
    return dict(counts)


def _import_t2ia(folder: Path, entry: Entry, stores: dict[Any, JsonlStore], counts: Counter[str]) -> None:
    def questions() -> T2IAQuestions:
        found = published.read_t2ia_questions(folder, entry)
        known = stores["t2ia_questions"].get(entry.text_id)
        if known and [q["question"] for q in known["questions"]] != [q["question"] for q in found.questions]:
            raise DataFileError(f"{entry.questions_file}: other questions than another image of {entry.text_id} has")
        return found

    if _store(stores["t2ia_questions"], entry.text_id, questions, counts, again=True):
        _store(stores["t2ia_answers"], entry.pair_id, lambda: published.read_t2ia_answers(folder, entry), counts)


def _import_iqa(folder: Path, entry: Entry, stores: dict[Any, JsonlStore], counts: Counter[str]) -> None:
    def answers() -> IQAAnswers:
        record, from_correct = published.read_iqa_answers(folder, entry)
        counts["iqa_scores_from_correct"] += from_correct
        return record

    if _store(stores["iqa_questions"], entry.pair_id, lambda: published.read_iqa_questions(folder, entry), counts):
        _store(stores["iqa_answers"], entry.pair_id, answers, counts)


def _store(store: JsonlStore, key: str, read: Callable[[], Any], counts: Counter[str], again: bool = False) -> bool:
    """Append a record unless it is there; `again`: read it anyway, to compare. True when it is there in the end."""
    if key in store.done and not again:
        return True
    try:
        record = read()
    except (DataFileError, SchemaError) as error:
        store.reject(key, str(error))
        counts["rejected"] += 1
        logger.warning("%s", error)
        return False
    if key not in store.done:
        store.append(record.to_dict())
        counts[record.SCHEMA] += 1
    return True


def _write_metadata(config: ImportConfig, entries: list[Entry], counts: Counter[str]) -> None:
    tiers = _tiers(config.models)
    with atomic_write(config.images / "metadata.jsonl") as file:
        for row in _metadata(config, entries, tiers, counts):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _metadata(
    config: ImportConfig, entries: list[Entry], tiers: dict[str, int], counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    for entry in entries:
        try:
            tier = tiers.get(entry.generation_model.casefold())
            if tier is None:
                raise DataFileError(f"the model {entry.generation_model!r} is not in {config.models}, so has no tier")
            path = resolve_below(config.images, entry.image_path)
            load_image(path)
            size = stored_size(path)
            row = {
                "file_name": entry.image_path,
                "pair_id": entry.pair_id,
                "prompt_id": entry.text_id,
                "prompt": entry.prompt,
                "tier": tier,
                "categories": [],
                "generation_model": entry.generation_model,
                "width": size[0],
                "height": size[1],
                "settings": {"family": "external"},
                "sha256": sha256(path),
            }
            yield PairRecord.from_dict(row, entry.pair_id).to_dict()
            counts["pairs"] += 1
        except (DataFileError, SchemaError, ImageError) as error:
            counts["rejected"] += 1
            logger.warning("%s: %s", entry.pair_id, error)


def _tiers(models: Path) -> dict[str, int]:
    """Tier of every model, by slug and by name, in lower case."""
    try:
        with models.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
            return {row[name].casefold(): int(row["tier"]) for row in rows for name in ("slug", "name")}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataFileError(f"{models}: expected a CSV table with slug, name and tier ({error!r})") from error
