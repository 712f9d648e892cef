"""Scoring tables of pairs: metadata.jsonl in, scores.jsonl out, with resume, rejects and a summary."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dyneval.images import ImageError, load_image
from dyneval.metadata import metadata_file, read_pairs
from dyneval.records import ScoreRecord
from dyneval.scorer.pairs import Failure, Pair, default_pair_id, make_pair
from dyneval.scorer.scorer import Scorer
from dyneval.storage import DataFileError, JsonlStore, Row, read_jsonl

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the rows of a run."""

    scored: int
    there_before: int
    failed: int
    seconds: float


def score_file(
    load: Callable[[], Scorer],
    metadata: Path,
    output: Path,
    image_root: Path | None = None,
    limit: int | None = None,
) -> Summary:
    """Score the pairs of a metadata file and append the records to `output`; those already there are left out.

    Args:
        load: loads the student; called when the metadata has been read.
        metadata: JSONL, CSV, Parquet or an ImageFolder; a row has `prompt`, `file_name` and perhaps `pair_id`.
        output: JSONL of ScoreRecords. Rows that fail go to `<stem>.rejects.jsonl` beside it and are tried again in the
            next run.
        image_root: folder that `file_name` is relative to and may not leave; default: the folder of `metadata`.
        limit: only so many rows from the beginning.

    Raises:
        DataFileError: `metadata` cannot be read, or `output` holds scores of another model or other settings.
    """
    metadata = metadata_file(metadata)
    rows = read_pairs(metadata)[:limit]
    root = image_root or metadata.parent
    if not root.is_dir():
        raise DataFileError(f"{root}: no such image folder")
    scorer = load()
    _check_output(output, scorer)
    started = time.perf_counter()
    with JsonlStore(output, "pair_id") as store:
        pending = _pending(rows, store)
        there_before = len(rows) - len(pending) - store.rejected
        with tqdm(total=len(rows), initial=len(rows) - len(pending), unit="pair", desc="scoring") as bar:
            for result in scorer.score_pairs(_load(pending, root, store, bar)):
                _keep(result, store)
                bar.update()
        summary = Summary(store.written, there_before, store.rejected, time.perf_counter() - started)
    _log(summary, output, store.rejects_path)
    return summary


def score_image(
    load: Callable[[], Scorer], image: Path, prompt: str, output: Path | None = None
) -> ScoreRecord | Failure:
    """Score one image file; with `output`, the record is appended there unless its pair_id is there already.

    `load` loads the student; it is called when the image has been read.

    Raises:
        ImageError: the file cannot be used.
        DataFileError: `output` holds scores of another model or other settings.
    """
    pair = make_pair(image, prompt)
    scorer = load()
    if output is None:
        return next(scorer.score_pairs([pair]))
    _check_output(output, scorer)
    with JsonlStore(output, "pair_id") as store:
        result = next(scorer.score_pairs([pair]))
        if pair.pair_id not in store.done:
            _keep(result, store)
    return result


def read_questions(path: Path) -> dict[str, list[dict[str, Any]]]:
    """T2IA questions by prompt from JSONL rows with `prompt` and `questions`, as Step 3 and `dyneval` write them.

    Raises:
        DataFileError: the file cannot be read, or a row has neither.
    """
    questions = {}
    for number, row in enumerate(read_jsonl(path), 1):
        asked = row.get("questions", row.get("t2ia_questions"))
        if not isinstance(row.get("prompt"), str) or not isinstance(asked, list):
            raise DataFileError(f"{path}: row {number}: expected `prompt` and `questions`")
        questions[row["prompt"]] = [
            {"question": one.get("question"), "answer": one.get("answer")} for one in asked if isinstance(one, dict)
        ]
    return questions


def _check_output(output: Path, scorer: Scorer) -> None:
    """One file holds scores that compare: by one model, with one template and one set of settings."""
    first = next(read_jsonl(output), None) if output.exists() else None
    if first is None:
        return
    wanted = {"model": scorer.name, "template": scorer.settings.template, **scorer.shaping()}
    found = {"model": first.get("model"), "template": first.get("template"), **first.get("settings", {})}
    changed = [f"{key} was {found.get(key)}, is {value}" for key, value in wanted.items() if found.get(key) != value]
    if changed:
        raise DataFileError(f"{output}: holds other scores ({'; '.join(changed)}); name another output file")


def _pending(rows: Sequence[Row], store: JsonlStore) -> list[tuple[str, str, str]]:
    """The rows still to be scored, as (pair_id, prompt, file name); unusable ones are rejected."""
    pending = []
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        prompt, name = row.get("prompt"), row.get("file_name")
        if not isinstance(prompt, str) or not isinstance(name, str) or not name:
            store.reject(f"row {number}", "expected the texts `prompt` and `file_name`")
            continue
        pair_id = str(row.get("pair_id") or default_pair_id(prompt, name))
        if pair_id in seen:
            store.reject(pair_id, f"row {number}: the pair_id was used before in this file", file_name=name)
        elif pair_id not in store.done:
            pending.append((pair_id, prompt, name))
        seen.add(pair_id)
    return pending


def _load(pending: Sequence[tuple[str, str, str]], root: Path, store: JsonlStore, bar: tqdm[Any]) -> Iterator[Pair]:
    for pair_id, prompt, name in pending:
        try:
            yield Pair(pair_id=pair_id, prompt=prompt, image=load_image(name, root), image_name=name)
        except ImageError as error:
            _reject(store, pair_id, str(error))
            bar.update()


def _keep(result: ScoreRecord | Failure, store: JsonlStore) -> None:
    if isinstance(result, Failure):
        _reject(store, result.pair_id, result.reason)
    else:
        store.append(result.to_dict())


def _reject(store: JsonlStore, pair_id: str, reason: str) -> None:
    store.reject(pair_id, reason)
    logger.warning("%s: %s", pair_id, reason)


def _log(summary: Summary, output: Path, rejects: Path) -> None:
    logger.info(
        "%d pairs scored in %.1f s (%.2f a second), %d were there before, %d failed%s -> %s",
        summary.scored,
        summary.seconds,
        summary.scored / summary.seconds,
        summary.there_before,
        summary.failed,
        f" (see {rejects})" if summary.failed else "",
        output,
    )
