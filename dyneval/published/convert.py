"""Conversion between our annotation files and those of the public data set, both ways, counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from dyneval import model_table
from dyneval.errors import DataFileError, ImageError, SchemaError
from dyneval.files.pairs import read_pairs
from dyneval.files.store import JsonlIndex, JsonlStore, append_reject
from dyneval.published.annotations import Layout, MissingFileError, read_annotation, write_annotation
from dyneval.published.mapping import (
    MAPPING,
    Entry,
    PairMaker,
    entry_of,
    open_metadata,
    read_mapping,
    write_mapping,
)
from dyneval.records import (
    ANNOTATIONS,
    WORKFLOWS,
    Annotation,
    IQAAnswers,
    PairRecord,
    Question,
    Reject,
    RejectKind,
    T2IAAnswer,
    T2IAAnswers,
    T2IAQuestions,
    Workflow,
    key_of,
)

logger = logging.getLogger(__name__)

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """What is imported.

    Attributes:
        annotations_file: the mapping, DYNEVAL-250K-PROMPTS.json.
        output: folder of our annotation files.
        images: folder that the mapping's image paths are relative to, which gets a metadata.jsonl; None: the mapping's.
        models: TOML file with T2I models beside those that are known; pairs of unknown models have no tier.
        folders: folder of a workflow's files, where it is not the published one beside the mapping.
    """

    annotations_file: Path
    output: Path
    images: Path | None = None
    models: Path | None = None
    folders: dict[Workflow, Path | None] = field(default_factory=dict)


def import_published(config: ImportConfig) -> Counts:
    """Read the published files of every pair into our four annotation files, and its pairs into metadata.jsonl.

    What is there already is passed over. Each of the four annotations stands on its own: one that is missing or cannot
    be used is a line of its rejects file, and the others are kept. So is a pair without image (`pairs.rejects.jsonl`).

    Returns:
        For "pairs" and each workflow: added, missing (workflows), rejected; "pairs" also counts those without a tier
        (`untiered`), "iqa_answers" those whose answers have no score of their own (`without_scores`).

    Raises:
        DataFileError: the mapping or a folder is missing or unusable, or there is not one pair with an annotation.
    """
    entries, unusable = read_mapping(config.annotations_file)
    layout = Layout.beside(config.annotations_file, config.folders)
    tiers = model_table.tiers(config.models)
    maker = PairMaker(config.images or layout.root, tiers)
    with ExitStack() as stack:
        stores = {
            name: stack.enter_context(JsonlStore(config.output / f"{name}.jsonl", record))
            for name, record in ANNOTATIONS.items()
        }
        pairs = stack.enter_context(open_metadata(maker.images, keep_rejects=True))
        work = _Import(layout, maker, stores, pairs, config.output / "pairs.rejects.jsonl")
        for name, reason in unusable:
            work.reject_pair(name, reason)
        for entry in entries:
            work.take(entry)
        kept = any(entry.pair_id in pairs.done for entry in entries) and any(store.done for store in stores.values())
    if not kept:
        for store in stores.values():
            if store.path.stat().st_size == 0:
                store.path.unlink()
        raise DataFileError(
            f"{config.annotations_file}: nothing could be imported, {work.rejected} of its pairs and annotations are "
            f"missing or unusable; first: {work.first_reason or 'it lists no pair'}"
        )
    return {name: dict(counts) for name, counts in work.counts.items()}


class _Import:
    """An import under way: its files and its counts."""

    def __init__(
        self,
        layout: Layout,
        maker: PairMaker,
        stores: dict[Workflow, JsonlStore[Any]],
        pairs: JsonlStore[PairRecord],
        rejects: Path,
    ) -> None:
        self.layout = layout
        self.maker = maker
        self.stores = stores
        self.pairs = pairs
        self.rejects = rejects
        self.counts = {name: Counter(added=0, rejected=0) for name in ("pairs", *WORKFLOWS)}
        self.rejected = 0
        self.first_reason = ""
        rejects.unlink(missing_ok=True)

    def take(self, entry: Entry) -> None:
        """Import what there is of one pair and not in our files yet."""
        known = self.pairs.get(entry.pair_id)
        if known is not None and all(getattr(known, store.key) in store.done for store in self.stores.values()):
            return
        found: dict[Workflow, Annotation | ValueError] = {}
        for name in WORKFLOWS:
            try:
                found[name] = read_annotation(name, self.layout, entry)
            except (DataFileError, SchemaError) as error:
                found[name] = error
        prompt_id = self._prompt_id(entry, known.prompt_id if known else entry.text_id, found)
        for name, record in found.items():
            if isinstance(record, T2IAQuestions):
                record = replace(record, prompt_id=prompt_id)
            self._keep(name, prompt_id if ANNOTATIONS[name].KEY == "prompt_id" else entry.pair_id, record, entry)
        self._add_pair(entry, prompt_id, known)

    def _prompt_id(self, entry: Entry, shared: str, found: dict[Workflow, Annotation | ValueError]) -> str:
        """Id of the pair's prompt: the one that it shares with other images, unless its questions are its own.

        In the public data set each image has its own file of questions, and those of two images of one prompt differ.
        """
        own = f"{entry.text_id}:{entry.pair_id}"
        asked, answered = found["t2ia_questions"], found["t2ia_answers"]
        first = self.stores["t2ia_questions"].get(shared)
        if isinstance(asked, T2IAQuestions):
            same = first is None or (first.questions, first.prompt) == (asked.questions, asked.prompt)
            return shared if same else own
        if isinstance(answered, T2IAAnswers):
            same = first is not None and _texts(first.questions) == _texts(answered.answers)
            return shared if same else own
        return shared

    def _keep(self, name: Workflow, key: str, found: Annotation | ValueError, entry: Entry) -> None:
        """Append a record unless it is there, or say why there is none."""
        store, counts = self.stores[name], self.counts[name]
        if not isinstance(found, ValueError):
            if key in store.done:
                return
            try:
                store.append(found)
            except SchemaError as error:
                found = DataFileError(f"{entry.pair_id}: {name}: {error}")
            else:
                counts["added"] += 1
                if isinstance(found, IQAAnswers):
                    counts["without_scores"] += any(answer.score is None for answer in found.answers)
                return
        missing = isinstance(found, MissingFileError)
        counts["missing" if missing else "rejected"] += 1
        kind: RejectKind = "missing_annotation" if missing else "bad_annotation"
        detail = {"workflow": name} | ({"pair_id": entry.pair_id} if store.key != "pair_id" else {})
        store.reject(Reject(key=key, kind=kind, reason=str(found), detail=detail))
        self._note(entry.pair_id, str(found), quiet=missing)

    def _add_pair(self, entry: Entry, prompt_id: str, known: PairRecord | None) -> None:
        if known is not None:
            if known.prompt_id != prompt_id:
                self.pairs.latest_only = True
                self.pairs.append(replace(known, prompt_id=prompt_id))
            return
        try:
            pair = self.maker.pair(entry, prompt_id)
        except (ImageError, SchemaError) as error:
            self.reject_pair(entry.pair_id, str(error))
            return
        self.pairs.append(pair)
        self.counts["pairs"]["added"] += 1
        self.counts["pairs"]["untiered"] += pair.tier is None

    def reject_pair(self, name: str, reason: str) -> None:
        """Record that an entry of the mapping is no pair, and why."""
        append_reject(self.rejects, Reject(key=name, kind="row", reason=reason), PairRecord.KEY)
        self.counts["pairs"]["rejected"] += 1
        self._note(name, reason)

    def _note(self, name: str, reason: str, quiet: bool = False) -> None:
        self.rejected += 1
        self.first_reason = self.first_reason or f"{name}: {reason}"
        if not quiet:
            logger.warning("%s: %s", name, reason)


def _texts(items: Sequence[Question | T2IAAnswer]) -> list[str]:
    return [item.question for item in items]


def export_published(metadata: Path, annotations: Path, output: Path) -> Counts:
    """Write our annotations as the public data set has them: a mapping, and one JSON file a pair and workflow.

    Each of the four is written where it is there and good; rows that are no pair are counted and named in the log.

    Returns:
        For "pairs" and each workflow: written, missing (workflows), rejected.

    Raises:
        DataFileError: a file is missing, or there is no pair or no annotation to write.
    """
    counts = {name: Counter(written=0, rejected=0) for name in ("pairs", *WORKFLOWS)}
    with ExitStack() as stack:
        files: dict[Workflow, JsonlIndex[Any]] = {}
        for name, record in ANNOTATIONS.items():
            files[name] = JsonlIndex(annotations / f"{name}.jsonl", record)
            stack.callback(files[name].close)
        if not any(len(file) for file in files.values()):
            raise DataFileError(f"{annotations}: holds no annotation, so there is nothing to export")

        def reject(row: Reject) -> None:
            counts["pairs"]["rejected"] += 1
            logger.warning("%s", row.reason)

        pairs = read_pairs(metadata, PairRecord, reject)
        first = next(pairs)
        entries = (_export(pair, files, output, counts) for pair in chain([first], pairs))
        counts["pairs"]["written"] = write_mapping(output / MAPPING, entries)
    return {name: dict(found) for name, found in counts.items()}


def _export(
    pair: PairRecord, files: dict[Workflow, JsonlIndex[Any]], output: Path, counts: dict[str, Counter[str]]
) -> Entry:
    """Write the annotation files of a pair and return its entry."""
    written: dict[Workflow, str] = {}
    for name, file in files.items():
        try:
            record: Annotation | None = file.get(key_of(name, pair), f"{pair.pair_id}: {name}")
        except SchemaError as error:
            counts[name]["rejected"] += 1
            logger.warning("%s", error)
            continue
        if record is None:
            counts[name]["missing"] += 1
            continue
        written[name] = write_annotation(output, pair, record)
        counts[name]["written"] += 1
    return entry_of(pair, written.get("t2ia_questions", ""), written.get("t2ia_answers", ""))
