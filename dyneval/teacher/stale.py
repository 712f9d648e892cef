"""Finished annotations whose pair has another prompt or image today: they are retired, and asked for again."""

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
    """The file of a workflow, in which rows of the present prompts count and stale ones move aside."""
    path = folder / f"{name}.jsonl"
    return JsonlStore(path, ANNOTATIONS[name], version=prompt_version(name), keep_rejects=True, latest_only=True)


class StaleWork:
    """Compares what is there with the pairs, as these are read."""

    def __init__(
        self,
        root: Path,
        stores: Mapping[Workflow, JsonlStore[Any]],
        rejects: Mapping[Workflow, dict[str, Reject]],
        given_up: Mapping[Workflow, set[str]],
    ) -> None:
        """Describe what there is.

        Args:
            root: folder of the images.
            stores: finished rows; those that are stale are retired.
            rejects: what earlier runs gave up on.
            given_up: their keys, which are not asked for again; those that are stale are removed.
        """
        self.root = root
        self.stores = stores
        self.counts: Counter[Workflow] = Counter()
        """Rows that were retired."""
        self._rejects = rejects
        self._given_up = given_up
        self._forgotten: set[Workflow] = set()
        self._oldest = {name: _oldest(store) for name, store in stores.items()}

    def retire(self, pair: PairRecord) -> None:
        """Take back what is finished, or given up, of another prompt or image than the pair's."""
        changed = _changed(self.root, pair)
        for name, store in self.stores.items():
            key = key_of(name, pair)
            if key in store.done and (reason := self._stale(name, key, pair, changed)):
                store.retire(key)
                self.counts[name] += 1
                logger.warning("%s: %s: %s; asked again", name, key, reason)
            elif (reject := self._rejects[name].get(key)) and _is_of_another(reject, pair):
                del self._rejects[name][key]
                self._given_up[name].discard(key)
                self._forgotten.add(name)

    def forget_rejects(self) -> None:
        """Take rejects out of the files whose row could be made after all."""
        for name in self._forgotten:
            store = self.stores[name]
            left = read_rejects(store.rejects_path, store.key)
            write_rejects(store.rejects_path, (one for key, one in left.items() if key not in store.done), store.key)

    def _stale(self, name: Workflow, key: str, pair: PairRecord, changed: float) -> str | None:
        """Why a row is not of the pair as it is today. Most rows begin as they should, and are not read further.

        `changed`: when the image was last written, seconds since 1970.
        """
        store = self.stores[name]
        has_image = store.record is not T2IAQuestions
        is_old = not has_image or changed < self._oldest[name]
        if is_old and store.begins_with(key, _head(store.key, key, pair, has_image)):
            return None
        try:
            row: Annotation | None = store.get(key)
        except SchemaError as error:
            return str(error)
        if row is None:  # made a moment ago, and on its way to the file
            return None
        if reason := other_origin(row, pair, self.root):
            return reason
        if isinstance(row, T2IAQuestions) or row.image_sha256 is None or changed < _time(row):
            return None
        is_same = image_sha256(self.root, pair) in (row.image_sha256, None)
        return None if is_same else "made from another image than the file holds, which is newer"


def _head(key_name: str, key: str, pair: PairRecord, has_image: bool) -> bytes:
    """How a row of the pair begins, see `Record.encode`."""
    fields = {key_name: key, "prompt": pair.prompt} | ({"image_sha256": pair.sha256} if has_image else {})
    return msgspec.json.format(msgspec.json.encode(fields), indent=0)[:-1]


def _is_of_another(reject: Reject, pair: PairRecord) -> bool:
    known = {"prompt": pair.prompt, "image_sha256": pair.sha256}
    return any(reject.detail.get(name, value) != value for name, value in known.items())


def _changed(root: Path, pair: PairRecord) -> float:
    try:
        return os.stat(f"{root}/{pair.file_name}").st_mtime  # noqa: PTH116 (a million times)
    except (OSError, ValueError):  # it cannot be asked about anyway
        return -math.inf


def _oldest(store: JsonlStore[Any]) -> float:
    """When the first row was made: an image that is older than that is older than all rows."""
    try:
        first = next(iter(store), None)
    except SchemaError:
        return -math.inf
    return math.inf if first is None else _time(first)


def _time(row: Annotation) -> float:
    try:
        return datetime.fromisoformat(row.provenance.created).timestamp()
    except ValueError:
        return -math.inf
