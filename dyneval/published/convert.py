"""Converts annotations from the public data set's files to ours, and back; `dyneval published import` and `export`.

Every pair and each of its four annotations is counted as added, missing or rejected. An import can be repeated: what is
there already is skipped. The public files hold one question file an image and ours one a prompt, which is where the two
forms do not match; `_Import._prompt_id` deals with it.
"""

from __future__ import annotations

import logging
from collections import Counter
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
    MappingEntry,
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
    Reject,
    RejectKind,
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
        images: folder that the mapping's image paths are relative to, and that gets the metadata.jsonl; None: the
            mapping's own folder.
        models: TOML file with image models beside those that are known; pairs of unknown models have no tier.
        folders: folder of a workflow's files, where it is not the published one beside the mapping.
    """

    annotations_file: Path
    output: Path
    images: Path | None = None
    models: Path | None = None
    folders: dict[Workflow, Path | None] = field(default_factory=dict)


def import_published(config: ImportConfig) -> Counts:
    """Read the published files of every pair into our four annotation files, and its pairs into metadata.jsonl.

    Pairs and annotations that are there already are skipped. An annotation that is missing or cannot be used becomes a
    line of its rejects file, and the others of the pair are kept; so do pairs without image (`pairs.rejects.jsonl`).

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
        # Rejects are tried again by each import, so those of the last one do not stay.
        rejects = config.output / "pairs.rejects.jsonl"
        rejects.unlink(missing_ok=True)
        work = _Import(layout=layout, maker=maker, stores=stores, pairs=pairs, rejects=rejects)
        for name, reason in unusable:
            work.reject_pair(name, reason)
        for entry in entries:
            work.take(entry)
        kept = any(entry.pair_id in pairs.done for entry in entries) and any(store.done for store in stores.values())
    # An import of nothing is most likely one of the wrong folder; empty files would hide that from the next step.
    if not kept:
        for store in stores.values():
            if store.path.stat().st_size == 0:
                store.path.unlink()
        raise DataFileError(
            f"{config.annotations_file}: nothing could be imported, {work.rejected} of its pairs and annotations are "
            f"missing or unusable; first: {work.first_reason or 'it lists no pair'}"
        )
    return {name: dict(counts) for name, counts in work.counts.items()}


@dataclass(kw_only=True)
class _Import:
    """An import under way: its files and its counts."""

    layout: Layout
    maker: PairMaker
    stores: dict[Workflow, JsonlStore[Any]]
    pairs: JsonlStore[PairRecord]
    rejects: Path
    """File of the entries that are no pairs."""
    counts: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter(added=0, rejected=0) for name in ("pairs", *WORKFLOWS)}
    )
    rejected: int = 0
    first_reason: str = ""

    def take(self, entry: MappingEntry) -> None:
        """Import what there is of one pair and is not in our files yet."""
        known = self.pairs.get(entry.pair_id)
        if known is not None and all(getattr(known, store.key) in store.done for store in self.stores.values()):
            return
        # All four are read before one is kept: the prompt's id depends on questions and answers together.
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

    def _prompt_id(self, entry: MappingEntry, shared: str, found: dict[Workflow, Annotation | ValueError]) -> str:
        """Id of the pair's prompt: the one that it shares with other images, unless its questions are its own."""
        # In the public data set each image has its own file of questions, and those of two images of one prompt differ.
        # Our files hold one row of questions for each prompt id, and answers must be to the questions of their row.
        own = f"{entry.text_id}:{entry.pair_id}"
        asked, answered = found["t2ia_questions"], found["t2ia_answers"]
        first = self.stores["t2ia_questions"].get(shared)
        if isinstance(asked, T2IAQuestions):
            same = first is None or (first.questions, first.prompt) == (asked.questions, asked.prompt)
            return shared if same else own
        if isinstance(answered, T2IAAnswers):
            same = first is not None and [one.question for one in first.questions] == [
                one.question for one in answered.answers
            ]
            return shared if same else own
        return shared

    def _keep(self, name: Workflow, key: str, found: Annotation | ValueError, entry: MappingEntry) -> None:
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
        # Where a part of the data set was downloaded, missing files are the usual case: counted, without a warning.
        missing = isinstance(found, MissingFileError)
        counts["missing" if missing else "rejected"] += 1
        kind: RejectKind = "missing_annotation" if missing else "bad_annotation"
        detail = {"workflow": name} | ({"pair_id": entry.pair_id} if store.key != "pair_id" else {})
        store.reject(Reject(key=key, kind=kind, reason=str(found), detail=detail))
        self._note(entry.pair_id, str(found), quiet=missing)

    def _add_pair(self, entry: MappingEntry, prompt_id: str, known: PairRecord | None) -> None:
        if known is not None:
            # Its questions came with this import and are its own: a second row of the pair replaces the first one.
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


def export_published(metadata: Path, annotations: Path, output: Path) -> Counts:
    """Write our annotations as the public data set has them: a mapping, and one JSON file a pair and workflow.

    Each of the four is written where it is there and good; rows that are no pair are counted and named in the log.

    Args:
        metadata: metadata.jsonl of the pairs.
        annotations: folder of our annotation files.
        output: folder of the mapping.

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
        # Read before the mapping is begun, so that metadata without pairs raises and leaves no file.
        first = next(pairs)
        entries = (_export(pair, files, output, counts) for pair in chain([first], pairs))
        counts["pairs"]["written"] = write_mapping(output / MAPPING, entries)
    return {name: dict(found) for name, found in counts.items()}


def _export(
    pair: PairRecord, files: dict[Workflow, JsonlIndex[Any]], output: Path, counts: dict[str, Counter[str]]
) -> MappingEntry:
    """Write the annotation files of a pair; return its entry, which names the two files that a mapping names."""
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
