"""Every run writes files of its own below `.parts/` and merges them into those of the folder when it ends.

So several runs (36 scripts, shards on other machines) share a folder and hold the lock of `metadata.jsonl` only while
they merge. What a killed run leaves is merged by the next run of any model. If a part were lost, its images would lie
in the folder without a record and be drawn again.

This is not `dyneval.files.parts.merge_file`: there a part stays, and the row that is already in the whole counts; here
a part is used up, its row replaces an older one of the same image (`--replace`), and rejects are those of a run, which
its next one replaces. What the two have in common is less than the switches that one function for both would need.
"""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

from dyneval.errors import DataFileError
from dyneval.files.atomic import atomic_write
from dyneval.files.jsonl import read_jsonl, whole_lines
from dyneval.files.store import JsonlStore, rejects_beside, write_rejects
from dyneval.records import Count, PairRecord, Reject, Text
from dyneval.structs import Record

log = logging.getLogger(__name__)

MERGE_WAIT = 600.0
"""Seconds to wait for other runs that merge."""


FOLDER = ".parts"


class RefusedImage(Record, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A line of refused.jsonl: an image that a model will not make, under settings of this fingerprint."""

    KEY = "pair_id"
    pair_id: Text
    fingerprint: str
    reason: Text
    prompt: Text
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cost_usd: float | None = None


# The metadata last: `unfinished_runs` finds a run by them, so a kill in between leaves a run that is found.
_FILES: dict[str, type[Record]] = {"refused": RefusedImage, "metadata": PairRecord}
"""The files that a run adds to, in this order, and what their rows are."""


def part_path(root: Path, stem: str, name: str) -> Path:
    """Return the file of the run called `name` whose rows go into `root`/`stem`.jsonl.

    Args:
        root: folder of the GenDB.
        stem: "metadata" or "refused", see `_FILES`.
        name: of the run; it is part of the file's name, so it holds no slash.
    """
    return root / FOLDER / f"{stem}-{name}.jsonl"


def unfinished_runs(root: Path) -> dict[str, Path]:
    """Return the runs that have not ended, killed or still going on, with the files of their records."""
    found = sorted((root / FOLDER).glob("metadata-*.jsonl"))
    return {p.stem.removeprefix("metadata-"): p for p in found if not p.name.endswith(".rejects.jsonl")}


def merge(root: Path, name: str) -> None:
    """Append the rows of a part to the files of the folder, take over its rejects, and remove it.

    A part that is in use, or a folder that stays in use for `MERGE_WAIT` seconds, is left to a later run.
    """
    try:
        for stem, record in _FILES.items():
            _merge_file(part_path(root, stem, name), root / f"{stem}.jsonl", record, name)
    except DataFileError as error:
        log.info("%s: the part %s is not merged now (%s)", root, name, error)


def _merge_file(part: Path, whole: Path, record: type[Record], name: str) -> None:
    """Merge one part into one file of the folder. Raises DataFileError: another process has one of them open."""
    if not part.exists():
        return
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(JsonlStore(part, record, keep_rejects=True))
        if not source.done and not source.rejects_path.exists() and not rejects_beside(whole).exists():
            part.unlink()  # nothing new, and the whole file need not be read to know it
            return
        store = stack.enter_context(JsonlStore(whole, record, wait=MERGE_WAIT, keep_rejects=True))
        superseded = not source.done.isdisjoint(store.done)
        for key in source.keys:
            # As bytes, so that a record keeps the form in which its run wrote it.
            if (line := source.line(key)) is not None:
                store.append_line(key, line)
        if superseded:
            _keep_last(whole)
        # The rejects of this run replace those of its last time. An image that exists by now is no longer a reject.
        before, own = store.rejects_path, source.rejects_path
        rows = [row for row in (read_jsonl(before) if before.exists() else ()) if row.get("run") != name]
        rows = [row for row in rows if str(row.get("pair_id")) not in store.done]
        rows += [{**row, "run": name} for row in (read_jsonl(own) if own.exists() else ())]
        write_rejects(before, [Reject.of_row(row, store.key) for row in rows], store.key)
        # After a kill before this line the part is merged once more, which changes nothing; not so if the run's rejects
        # went first, since the merge would then take those that it wrote here for old ones.
        part.unlink()
        own.unlink(missing_ok=True)


def _keep_last(path: Path) -> None:
    """Rewrite a JSONL file with only the last row of each pair_id; it holds the numbers of lines, not the lines."""
    last = {str(row["pair_id"]): number for number, row in enumerate(read_jsonl(path))}
    with atomic_write(path, "wb") as file:
        for number, line in enumerate(whole_lines(path)):
            if last[str(json.loads(line)["pair_id"])] == number:
                file.write(line)
