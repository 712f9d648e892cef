"""Finds finished annotations that were made for another prompt or image than their pair has today.

Users edit prompts and draw images again under the same pair_id. A run compares each pair with its finished rows as it
reads the pairs, retires the rows that do not fit, and asks for them again. Without this, students would be trained on
answers about pictures that no longer exist. The comparison must be cheap: a resume makes it for a million rows.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from dyneval.errors import SchemaError
from dyneval.files.origins import image_sha256, other_origin
from dyneval.files.store import JsonlStore, read_rejects, write_rejects
from dyneval.records import ANNOTATIONS, Annotation, PairRecord, Reject, T2IAQuestions, Workflow, key_of
from dyneval.teacher.prompts import prompt_version

logger = logging.getLogger(__name__)


def annotation_store(folder: Path, name: Workflow) -> JsonlStore[Any]:
    """Return the store of a workflow's file.

    Rows that were asked for with today's wording count as done. A row that a later one replaces moves to a file beside
    it.

    Args:
        folder: of the run.
        name: the workflow.
    """
    path = folder / f"{name}.jsonl"
    return JsonlStore(path, ANNOTATIONS[name], version=prompt_version(name), keep_rejects=True, latest_only=True)


class StaleWork:
    """Compares finished annotations with the pairs, as these are read.

    Attributes:
        counts: rows that were retired, by workflow.
    """

    def __init__(
        self,
        root: Path,
        stores: Mapping[Workflow, JsonlStore[Any]],
        rejects: Mapping[Workflow, dict[str, Reject]],
        given_up: Mapping[Workflow, set[str]],
    ) -> None:
        """Take the files of a run.

        Args:
            root: folder of the images.
            stores: finished rows; those that are stale are retired.
            rejects: what earlier runs gave up on.
            given_up: their keys, which are not asked for again; those that are stale are removed.
        """
        self.root = root
        self.stores = stores
        self.counts: Counter[Workflow] = Counter()
        self._rejects = rejects
        self._given_up = given_up
        self._forgotten: set[Workflow] = set()
        # When the first row of each file was made: an image that is older than this is older than all its rows.
        self._oldest: dict[Workflow, float] = {}
        for name, store in stores.items():
            try:
                first: Annotation | None = next(iter(store), None)
                self._oldest[name] = math.inf if first is None else _time(first)
            except SchemaError:
                self._oldest[name] = -math.inf

    def retire(self, pair: PairRecord) -> None:
        """Retire annotations and rejects of the pair that are of another prompt or image than it has."""
        try:
            changed = os.stat(f"{self.root}/{pair.file_name}").st_mtime  # noqa: PTH116 (a million times)
        except (OSError, ValueError):  # no image, so that no annotation of it can be asked for anyway
            changed = -math.inf
        known = {"prompt": pair.prompt, "image_sha256": pair.sha256}
        for name, store in self.stores.items():
            key = key_of(name, pair)
            if key in store.done and (reason := self._stale(name, key, pair, changed)):
                store.retire(key)
                self.counts[name] += 1
                logger.warning("%s: %s: %s; asked again", name, key, reason)
            elif (reject := self._rejects[name].get(key)) and any(
                reject.detail.get(field, value) != value for field, value in known.items()
            ):
                del self._rejects[name][key]
                self._given_up[name].discard(key)
                self._forgotten.add(name)

    def forget_rejects(self) -> None:
        """Remove rejects from the files whose annotation could be made after all."""
        # Called once, at the end of a run: it writes each file anew.
        for name in self._forgotten:
            store = self.stores[name]
            left = read_rejects(store.rejects_path, store.key)
            write_rejects(store.rejects_path, (one for key, one in left.items() if key not in store.done), store.key)

    def _stale(self, name: Workflow, key: str, pair: PairRecord, changed: float) -> str | None:
        """Why a row does not belong to the pair as it is today, or None.

        `changed`: when the image was last written, seconds since 1970.
        """
        store = self.stores[name]
        has_image = store.record is not T2IAQuestions
        is_old = not has_image or changed < self._oldest[name]
        # A row begins with its key, prompt and image hash (see `Record.encode`), so comparing its first bytes decides
        # nearly every case without parsing the row.
        head = {store.key: key, "prompt": pair.prompt} | ({"image_sha256": pair.sha256} if has_image else {})
        if is_old and store.begins_with(key, msgspec.json.format(msgspec.json.encode(head), indent=0)[:-1]):
            return None
        try:
            row: Annotation | None = store.get(key)
        except SchemaError as error:
            return str(error)
        if row is None:  # made a moment ago, and on its way to the file
            return None
        if reason := other_origin(row, pair, self.root):
            return reason
        # The metadata's hash may be as old as the row. Only the file itself shows a newer image, and it is hashed only
        # where it was written after the row was made.
        if isinstance(row, T2IAQuestions) or row.image_sha256 is None or changed < _time(row):
            return None
        is_same = image_sha256(self.root, pair) in (row.image_sha256, None)
        return None if is_same else "made from another image than the file holds, which is newer"


def _time(row: Annotation) -> float:
    try:
        return datetime.fromisoformat(row.provenance.created).timestamp()
    except ValueError:
        return -math.inf
