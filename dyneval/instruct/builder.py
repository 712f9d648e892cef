"""Builds DynEvalInstruct from annotations, one pair at a time: two training files, the held-out pairs, the counts."""

from __future__ import annotations

import json
import logging
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from dyneval.images import ImageError, resolve_below
from dyneval.instruct import samples
from dyneval.instruct.annotations import AnnotatedPair, Annotations, MissingAnnotationError, read_pairs
from dyneval.instruct.curation import Curation
from dyneval.records import InstructSample, PairRecord
from dyneval.schemas import SchemaError
from dyneval.storage import DataFileError, atomic_write, write_json
from dyneval.tokens import DEFAULT_TEMPLATE, TemplateVersion

logger = logging.getLogger(__name__)

STAGE_FILES = {"t2ia": "dynevalinstruct_t2ia.json", "iqa": "dynevalinstruct_iqa.json"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildConfig:
    """What is built from what.

    Attributes:
        metadata: metadata.jsonl of the pairs; image paths in the samples are relative to its folder.
        annotations: folder of the four annotation files.
        output: folder of the training files.
        curation: which pairs are kept, and the held-out share.
        template: version of the human turns.
        check_images: see that every image is there, below the folder of `metadata`.
    """

    metadata: Path
    annotations: Path
    output: Path
    curation: Curation = field(default_factory=Curation)
    template: TemplateVersion = DEFAULT_TEMPLATE
    check_images: bool = True


def build(config: BuildConfig) -> dict[str, Any]:
    """Write the training files, heldout.jsonl, rejects.jsonl and summary.json; return the summary.

    Nothing is written before all has been read: a file is there whole or not at all.

    Raises:
        DataFileError: a file is missing, or not one sample could be made.
    """
    with ExitStack() as stack:
        run = _Build(config, stack)
        for pair in read_pairs(config.metadata, lambda name, reason: run.reject(name, "bad_row", reason)):
            run.add(pair)
        summary = run.close()
    write_json(config.output / "summary.json", summary)
    return summary


class _JsonArray:
    """A JSON array that is written entry by entry."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.length = 0

    def append(self, sample: InstructSample) -> None:
        self.file.write((b",\n" if self.length else b"[\n") + orjson.dumps(sample.to_dict()))
        self.length += 1

    def end(self) -> None:
        self.file.write(b"\n]\n" if self.length else b"[]\n")


class _Build:
    """State of one build: open files and counts."""

    def __init__(self, config: BuildConfig, stack: ExitStack) -> None:
        self.config = config
        self.root = config.metadata.parent
        self.annotations = stack.enter_context(Annotations(config.annotations))
        opened = {
            stage: stack.enter_context(atomic_write(config.output / name, "wb")) for stage, name in STAGE_FILES.items()
        }
        self.stages = {stage: _JsonArray(file) for stage, file in opened.items()}
        self.heldout = stack.enter_context(atomic_write(config.output / "heldout.jsonl"))
        self.rejects = stack.enter_context(atomic_write(config.output / "rejects.jsonl"))
        self.counts: Counter[str] = Counter()
        self.tiers: dict[int, Counter[str]] = {tier: Counter() for tier in config.curation.delta}
        self.samples: Counter[str] = Counter()
        self.prompts: set[str] = set()
        self.heldout_prompts: set[str] = set()

    def add(self, pair: PairRecord) -> None:
        """Sort one pair: rejected, held out, dropped by curation, or training data."""
        self.counts["pairs"] += 1
        try:
            if self.config.check_images and not resolve_below(self.root, pair.file_name).is_file():
                raise ImageError(f"{pair.file_name}: no such image file below {self.root}")
            item = self.annotations.of(pair)
            made = self._samples(item)
        except MissingAnnotationError as error:
            self.reject(pair.pair_id, "not_annotated", str(error))
        except ImageError as error:
            self.reject(pair.pair_id, "image", str(error))
        except (SchemaError, DataFileError, ValueError) as error:
            self.reject(pair.pair_id, "bad_annotation", str(error))
        else:
            self._sort(item, made)

    def reject(self, name: str, kind: str, reason: str) -> None:
        """Count and report what cannot be used."""
        self.counts[kind] += 1
        self.rejects.write(json.dumps({"pair_id": name, "kind": kind, "reason": reason}, ensure_ascii=False) + "\n")
        if kind != "not_annotated":
            logger.warning("%s: %s", name, reason)

    def close(self) -> dict[str, Any]:
        """End the arrays and return the summary. Raises DataFileError when there is no sample."""
        if not self.prompts:
            raise DataFileError(
                f"{self.config.annotations}: no training sample can be made; {dict(self.counts)} "
                "(annotate first; lower --heldout or raise --delta where all pairs were set aside)"
            )
        for stage in self.stages.values():
            stage.end()
        return {
            "template": self.config.template,
            "delta": dict(self.config.curation.delta),
            "heldout_share": self.config.curation.heldout,
            "pairs": self.counts["pairs"],
            "kept": self.counts["kept"],
            "dropped": {"score_not_below_delta": self.counts["score_not_below_delta"]},
            "heldout_pairs": self.counts["heldout"],
            "heldout_prompts": len(self.heldout_prompts),
            "training_prompts": len(self.prompts),
            "rejected": {kind: self.counts[kind] for kind in ("bad_row", "image", "not_annotated", "bad_annotation")},
            "tiers": {str(tier): dict(counts) for tier, counts in self.tiers.items()},
            "samples": {stage: array.length for stage, array in self.stages.items()},
            "samples_by_task": dict(self.samples),
        }

    def _samples(self, item: AnnotatedPair) -> dict[str, tuple[InstructSample, ...]]:
        """All samples of a pair by stage; made before anything is written, so a pair is used whole or not at all."""
        first = () if item.pair.prompt_id in self.prompts else (samples.t2ia_sample(item, self.config.template),)
        return {
            "t2ia": (*first, samples.t2ia_evaluation_sample(item)),
            "iqa": (samples.iqa_sample(item), samples.iqa_evaluation_sample(item)),
        }

    def _sort(self, item: AnnotatedPair, made: dict[str, tuple[InstructSample, ...]]) -> None:
        pair, curation = item.pair, self.config.curation
        if curation.holds_out(pair.prompt_id):
            self.heldout_prompts.add(pair.prompt_id)
            self.heldout.write(json.dumps(pair.to_dict(), ensure_ascii=False) + "\n")
            self._count(pair, "heldout")
        elif not curation.keeps(pair.tier, item.t2ia, item.iqa):
            self._count(pair, "score_not_below_delta")
        else:
            self.prompts.add(pair.prompt_id)
            self._count(pair, "kept")
            for stage, found in made.items():
                for sample in found:
                    self.stages[stage].append(sample)
                    self.samples[str(sample.id).rsplit(":", 1)[-1]] += 1

    def _count(self, pair: PairRecord, outcome: str) -> None:
        self.counts[outcome] += 1
        self.tiers[pair.tier][outcome] += 1
