"""GenDB, the folder of generated images: `metadata.jsonl` in Hugging Face ImageFolder form, a folder of images a model.

    gendb/metadata.jsonl          one PairRecord a line; `file_name` is relative to the folder
    gendb/metadata.rejects.jsonl  what the last runs could not make, and why; tried again by the next run
    gendb/refused.jsonl           what a model will not make however often it is asked; not asked again
    gendb/<slug>/<pair_id>.png    the images, sidecar files beside them
    gendb/.parts/                 files of runs in progress, append-only; each run ends by merging its own

This file decides what a rerun does not draw again. An image counts as there when its record is, its settings are those
of this run, and the file decodes and has the recorded SHA-256. A record is appended after its files are in place, so a
kill leaves no record without an image.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dyneval.errors import DataFileError, GenerationError
from dyneval.files.jsonl import read_jsonl
from dyneval.files.store import JsonlStore
from dyneval.generation import parts, saving
from dyneval.generation.model import ImageRequest, NoImage
from dyneval.generation.parts import RefusedImage
from dyneval.generation.saving import SavedImage
from dyneval.hashing import fingerprint
from dyneval.records import PairRecord, Reject, RejectKind
from dyneval.work import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SortedRequests:
    """Requests sorted by what the folder holds.

    Attributes:
        done: how many images are there and sound.
        pending: images to make.
        refused: requests that the model refused for good, with these settings.
    """

    done: int
    pending: list[ImageRequest]
    refused: list[ImageRequest]


class GenDB:
    """An open folder of generated images, as a context manager.

    Several runs may have it open, each under a name of its own; closing merges the records of this run into the folder.

    Attributes:
        index: what is recorded of each image, by pair_id.
        settings: the settings that images of this folder were made with, by fingerprint.
    """

    def __init__(self, root: Path, run: str) -> None:
        """Open nothing yet.

        Args:
            root: the folder.
            run: names the files in which records are kept until they are merged on closing.
        """
        self.root = root
        self.run = run
        self.index: dict[str, SavedImage] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self._refused: dict[str, str] = {}
        self.pairs = JsonlStore(parts.part_path(root, "metadata", run), PairRecord)
        self.refusals = JsonlStore(parts.part_path(root, "refused", run), RefusedImage)

    def __enter__(self) -> Self:
        if self.root.exists() and not self.root.is_dir():
            raise DataFileError(f"{self.root}: is not a folder; --output names one for the images")
        self.root.mkdir(parents=True, exist_ok=True)
        # Parts of runs that were killed come first: what they drew must be in the index, or it would be drawn again.
        for name in parts.unfinished_runs(self.root):
            parts.merge(self.root, name)
        with contextlib.ExitStack() as stack:
            # Opening a part locks it: the same run, started twice, is refused before it reads anything.
            stack.enter_context(self.pairs)
            stack.enter_context(self.refusals)
            # Rows are taken as plain JSON, not checked as records: of 500,000 that would take 10.5 s of CPU instead of
            # 4.2 s (benchmarks/README.md), and each was checked when it was written.
            metadata, refused = self.root / "metadata.jsonl", self.root / "refused.jsonl"
            try:
                for row in read_jsonl(metadata) if metadata.exists() else ():
                    self._index(row["pair_id"], row["file_name"], row["sha256"], row["settings"])
            except (KeyError, TypeError, AttributeError) as error:
                raise DataFileError(f"{self.root}: a row of metadata.jsonl is not a pair ({error!r})") from error
            for row in read_jsonl(refused) if refused.exists() else ():
                self._refused[str(row.get("pair_id"))] = str(row.get("fingerprint"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        parts.merge(self.root, self.run)

    def _index(self, pair_id: str, file_name: str, sha256: str, settings: dict[str, Any]) -> None:
        saved = saving.recorded(file_name, sha256, settings)
        self.index[pair_id] = saved  # a later record of an image replaces an earlier one
        self.settings.setdefault(saved.fingerprint, settings)

    def sort(
        self,
        requests: Sequence[ImageRequest],
        settings: Mapping[str, Any],
        *,
        replace: bool = False,
        retry_refused: bool = False,
    ) -> SortedRequests:
        """Sort requests by what the folder holds: every image that is there is decoded and hashed.

        Args:
            requests: the images that are wanted.
            settings: what this run asks of the model; compared with those of the images that are there.
            replace: make images anew that were made with other settings, rather than stop.
            retry_refused: ask again for what was refused for good.

        Raises:
            GenerationError: images of these requests were made with other settings; says which differ.
        """
        mark = fingerprint(settings)
        same, others = self.recorded(requests, mark)
        # Before any image is checked: of 500,000 images that takes hours.
        if others and not replace:
            before = self.settings[self.index[others[0].pair_id].fingerprint]
            raise GenerationError(
                f"{self.root}: {len(others)} images, such as {others[0].pair_id}, were made with other settings: "
                f"{differences(before, settings)}. Choose another --output, or --replace to make them anew."
            )
        sound = self._sound(same)
        missing = [r for r in requests if r.pair_id not in sound]
        refused = [] if retry_refused else [r for r in missing if self._refused.get(r.pair_id) == mark]
        skip = {r.pair_id for r in refused}
        return SortedRequests(done=len(sound), pending=[r for r in missing if r.pair_id not in skip], refused=refused)

    def recorded(self, requests: Iterable[ImageRequest], mark: str) -> tuple[list[ImageRequest], list[ImageRequest]]:
        """Return the requests that have a record: those made with settings of this fingerprint, and the others.

        No file is looked at.
        """
        there = [request for request in requests if request.pair_id in self.index]
        same = [request for request in there if self.index[request.pair_id].fingerprint == mark]
        return same, [request for request in there if self.index[request.pair_id].fingerprint != mark]

    def _sound(self, requests: Sequence[ImageRequest]) -> set[str]:
        """Return the ids of the images that are whole. Decoding and hashing release the GIL, hence threads."""
        sound: set[str] = set()
        if not requests:
            return sound
        with ThreadPoolExecutor() as pool, progress.bar("checking", len(requests), "img") as bar:
            checks = pool.map(lambda r: (r.pair_id, saving.fault(self.root, self.index[r.pair_id])), requests)
            for pair_id, reason in bar.over(checks):
                if reason is None:
                    sound.add(pair_id)
                else:
                    log.warning("%s: will be made anew: %s", pair_id, reason)
        return sound

    def add(self, record: PairRecord) -> None:
        """Append the record of an image whose files are in place. Raises OSError: the disk is full."""
        self.pairs.append(record)
        self._index(record.pair_id, record.file_name, record.sha256, record.settings)

    def refuse(self, outcome: NoImage, mark: str) -> None:
        """Record an image that could not be made, for good when the outcome says so.

        Args:
            outcome: the request and the reason.
            mark: fingerprint of this run's settings; with other settings the model is asked again.
        """
        pair_id, prompt, permanent = outcome.request.pair_id, outcome.request.prompt, outcome.permanent
        detail = {"permanent": permanent, "prompt": prompt, **outcome.details}
        # The next run tries a reject again, unless it is also in refused.jsonl.
        kind: RejectKind = "refused" if permanent else "failed"
        self.pairs.reject(Reject(key=pair_id, kind=kind, reason=outcome.reason, detail=detail))
        if permanent:
            row = {"pair_id": pair_id, "fingerprint": mark, "reason": outcome.reason, "prompt": prompt}
            self.refusals.append(RefusedImage.from_dict({**row, **outcome.details}, pair_id))


def differences(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """Return the settings that differ, as "name recorded -> requested" for a message.

    Records also hold what loading found out (commit, versions, device). Only names that were asked for count, and
    arguments that are no longer asked for.
    """
    old, new = dict(_flat(recorded)), dict(_flat(requested))
    names = [n for n in {**new, **{n: 0 for n in old if n.startswith("arguments.")}} if old.get(n) != new.get(n)]
    return ", ".join(f"{name} {old.get(name)!r} -> {new.get(name)!r}" for name in names) or "an older form of record"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
