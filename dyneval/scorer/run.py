"""Scoring many pairs into a file: scores.jsonl, with resume by content, rejects and a summary."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from dyneval.errors import DataFileError, ImageError, SchemaError, SettingError
from dyneval.files.atomic import refuse_overwrite, write_summary
from dyneval.files.captioned import Gathered
from dyneval.files.images import image_path, load_image
from dyneval.files.jsonl import read_records, refuse_foreign, whole_lines
from dyneval.files.pairs import PairRef, metadata_file, read_pairs
from dyneval.files.parts import Shard
from dyneval.files.store import JsonlStore, rejects_beside
from dyneval.files.tables import rows
from dyneval.hashing import file_sha256
from dyneval.loaded_pairs import Failure, Pair
from dyneval.records import Reject, RunSummary, ScoreRecord
from dyneval.replies import as_in_key
from dyneval.scorer.four_passes import Question
from dyneval.scorer.scorer import Scorer
from dyneval.work import progress
from dyneval.work.ahead import ahead
from dyneval.work.executors import Done, Executor, Here, Lost, Ray

logger = logging.getLogger(__name__)

_THREADS = min(8, os.cpu_count() or 1)
"""Threads that hash and decode image files ahead of the student."""


Outcome = ScoreRecord | Reject | None
"""What became of a pair: a new record, no score, no image, or None where its record still holds."""
Known = Callable[[str], str | None]
"""Key of the record that there is of a pair_id, or None."""

_LOOKED_AT = 100
"""Rows of an output of which one at least has to be a score."""
_STRETCH = 256
"""After so many pairs in a row that need no score, those read before are scored, so that the run says how far it is."""


def score_file(
    load: Callable[[], Scorer],
    metadata: Path,
    output: Path,
    image_root: Path | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
    cluster: Ray | None = None,
    inputs: Sequence[Path] = (),
    columns: Mapping[str, str] | None = None,
) -> RunSummary:
    """Score the pairs of a metadata file and append the records to `output`.

    A pair that is in `output` is left alone if its record was made from the same image, prompt, weights and settings
    (`ScoreRecord.key`). Otherwise it is scored again, and its old record moves to `<output>.superseded`.

    Args:
        load: loads the student; called when the metadata has been read.
        metadata: JSONL, CSV, Parquet or an ImageFolder; a row has `prompt`, `file_name` and perhaps `pair_id`.
        output: JSONL of ScoreRecords. Rows that fail go to `<stem>.rejects.jsonl` beside it and are tried again in the
            next run; the counts of the run to `<stem>.summary.json`.
        image_root: folder that `file_name` is relative to and may not leave; default: the folder of `metadata`.
        limit: only so many rows from the beginning.
        shard: only this part of them, into a file of the same name below `shards` beside `output`; `merge_scores` puts
            the parts together.
        cluster: score on Ray; `load` travels there pickled.
        inputs: other files that `load` reads, such as questions.
        columns: what `metadata` calls its columns, see `read_pairs`.

    Raises:
        DataFileError: `metadata` cannot be read, `output` holds something else than scores, or another process writes
            to it.
        SettingError: `output` is a folder, or it or a file beside it that is written too is one of the inputs.
        ClusterError: there is no cluster, or the student cannot be loaded there.
    """
    metadata = metadata_file(metadata)
    bad: list[Reject] = []
    wanted = list(read_pairs(metadata, PairRef, bad.append, shard=shard, limit=limit, columns=columns))
    root = image_root or metadata.parent
    if not root.is_dir():
        raise DataFileError(f"{root}: no such image folder")
    target = shard.folder(output.parent) / output.name if shard else output
    check_output(target, [metadata, *inputs])
    if cluster is None:
        return _score_here(load(), root, wanted, bad, target)
    # The other machines have another current folder.
    return _score(cluster, partial(ScoringWorker, load, root.resolve()), wanted, bad, target)


def score_refs(load: Callable[[], Scorer], gathered: Gathered, output: Path, inputs: Sequence[Path] = ()) -> RunSummary:
    """Score pairs that stand in no table, as `score_file` does those of one."""
    root = gathered.root or Path()
    check_output(output, [*(root / one.file_name for one in gathered.refs), *inputs])
    return _score_here(load(), gathered.root, gathered.refs, gathered.rejects, output)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Raises SettingError or DataFileError, as `score_file`, before a student is loaded or anything is written."""
    if output.is_dir():
        raise SettingError(f"--output {output}: is a folder; name a JSONL file")
    beside = (rejects_beside(output), _summary_beside(output), output.with_name(f"{output.name}.superseded"))
    refuse_overwrite(inputs, [output, *beside])
    if output.exists():
        refuse_foreign(output, ScoreRecord.KEY)
        begun = list(islice(whole_lines(output), _LOOKED_AT))
        if begun and not any(map(_is_record, begun)):
            raise DataFileError(f"{output}: holds no scores; it is left as it is, name another --output")


def _is_record(line: bytes) -> bool:
    try:
        ScoreRecord.decode(line, "")
    except SchemaError:
        return False
    return True


def _summary_beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}.summary.json")


def tell_unused_questions(scorer: Scorer, prompts: Iterable[str]) -> None:
    """Log the prompts that questions were given for although no pair has them."""
    if unused := scorer.unused_questions(prompts):
        shown = ", ".join(f"{prompt[:60]!r}" for prompt in unused[:3]) + (", ..." if len(unused) > 3 else "")
        logger.warning("questions of %d prompts are not used, since no pair has such a prompt: %s", len(unused), shown)


def read_questions(path: Path) -> dict[str, list[Question]]:
    """T2IA questions by prompt from rows with `prompt` and `questions`, as Step 3 and `dyneval` write them.

    Raises:
        DataFileError: the file cannot be read, has no rows, or a row has no prompt or no list of questions.
    """
    questions = {}
    for number, row in enumerate(rows(path), 1):
        prompt, asked = row.get("prompt"), row.get("questions", row.get("t2ia_questions"))
        if not isinstance(prompt, str) or not prompt.strip() or not isinstance(asked, list):
            raise DataFileError(f"{path}: row {number}: expected `prompt` and `questions`")
        questions[prompt] = [_question(one, f"{path}: row {number}") for one in asked]
    if not questions:
        raise DataFileError(f"{path}: holds no questions; expected rows with `prompt` and `questions`")
    return questions


def _question(one: Any, where: str) -> Question:
    text = one.get("question") if isinstance(one, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataFileError(f"{where}: expected questions with a text `question`, found {str(one)[:80]}")
    return {"question": text, "answer": one.get("answer")}


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """Pairs for one task, and what is known of them."""

    wanted: Sequence[PairRef]
    known: Known


class ScoringWorker:
    """A student, and the folder of the images, which they may not leave (None: they may be anywhere)."""

    def __init__(self, load: Callable[[], Scorer], root: Path | None, device: str) -> None:
        """`load` knows the device: it is a setting of the student."""
        self.scorer = load()
        self.root = root

    def work(self, portion: ScoringTask) -> Generator[Outcome, None, None]:
        """Yield what becomes of each pair, in any order; those whose record holds are not scored."""
        readings = (partial(_read, one, self.root, self.scorer, portion.known(one.pair_id)) for one in portion.wanted)
        found = ahead(readings, _THREADS)
        passed: list[Outcome] = []
        for one in found:
            if not isinstance(one, Pair):
                yield one
                continue
            for result in self.scorer.score_unordered(_changed(chain([one], found), passed)):
                yield from passed
                passed.clear()
                yield _outcome(result)
            yield from passed
            passed.clear()

    def close(self) -> None:
        """Nothing to free that does not go with the process."""


def _outcome(result: ScoreRecord | Failure) -> Outcome:
    if isinstance(result, Failure):
        return Reject(key=result.pair_id, kind="failed", reason=result.reason)
    return result


def _changed(found: Iterator[Pair | Reject | None], passed: list[Outcome]) -> Iterator[Pair]:
    """The pairs to score, up to a long stretch of others; those go to `passed`."""
    for one in found:
        if isinstance(one, Pair):
            yield one
        else:
            passed.append(one)
            if len(passed) >= _STRETCH:
                return


def _score_here(
    scorer: Scorer, root: Path | None, wanted: Sequence[PairRef], bad: Sequence[Reject], output: Path
) -> RunSummary:
    _tell_changes(output, scorer)
    tell_unused_questions(scorer, (one.prompt for one in wanted))
    return _score(Here(scorer.device), partial(ScoringWorker, lambda: scorer, root), wanted, bad, output)


def _score(
    executor: Executor,
    make_worker: Callable[[str], ScoringWorker],
    wanted: Sequence[PairRef],
    bad: Sequence[Reject],
    output: Path,
) -> RunSummary:
    started = time.perf_counter()
    with JsonlStore(output, ScoreRecord, latest_only=True) as store:
        for row in bad:
            _reject(row, store)
        portions = _portions(executor, wanted, partial(_key, store))
        with (
            progress.bar("scoring", len(wanted), "pair") as bar,
            closing(executor.run(make_worker, portions)) as found,
        ):
            for outcome in chain.from_iterable(map(_outcomes, found)):
                _keep(store, outcome)
                bar.update()
        there_before = len(wanted) + len(bad) - store.written - store.rejected
        seconds = round(time.perf_counter() - started, 3)
        summary = RunSummary(
            made=store.written,
            there_before=there_before,
            rejected=store.rejected,
            seconds=seconds,
            devices=tuple(executor.devices),
        )
    detail = {
        "scored": summary.made,
        "there_before": there_before,
        "failed": summary.rejected,
        "seconds": seconds,
        "devices": list(summary.devices),
    }
    write_summary(_summary_beside(output), summary, detail)
    _log(summary, store)
    return summary


def _key(store: JsonlStore[ScoreRecord], pair_id: str) -> str | None:
    """Key of the record that there is; None too for a row that is none, which is then scored again."""
    try:
        return getattr(store.get(pair_id), "key", None)
    except SchemaError as error:
        logger.warning("%s; scored again", error)
        return None


def _portions(executor: Executor, wanted: Sequence[PairRef], known: Known) -> Iterator[ScoringTask]:
    """All pairs at once for a worker in this process, which looks into the file; else some, with what is known."""
    if not isinstance(executor, Ray):
        yield ScoringTask(wanted, known)
        return
    for start in range(0, len(wanted), executor.batch):
        part = wanted[start : start + executor.batch]
        yield ScoringTask(part, {one.pair_id: known(one.pair_id) for one in part}.get)


def _outcomes(found: Done[ScoringTask, Outcome] | Lost[ScoringTask]) -> Iterable[Outcome]:
    if isinstance(found, Lost):
        return [Reject(key=one.pair_id, kind="engine", reason=found.reason) for one in found.task.wanted]
    return found.items


def _tell_changes(output: Path, scorer: Scorer) -> None:
    """Say what differs from the run before, since that costs scoring all over again."""
    try:
        first = next(read_records(output, ScoreRecord), None) if output.exists() else None
    except SchemaError:  # its pair is scored again, which is told then
        first = None
    if first is None:
        return
    wanted = {"model": scorer.name, "template": scorer.settings.template, **as_in_key(scorer.shaping())}
    found = {"model": first.model, "template": first.template, **as_in_key(first.settings)}
    changed = [
        f"{name} was {found.get(name, 'readme')}, is {wanted.get(name, 'readme')}"
        for name in sorted({*wanted, "reply_form"})
        if found.get(name) != wanted.get(name)
    ]
    if changed:
        logger.warning(
            "%s: holds other scores (%s); pairs are scored again where that matters", output, "; ".join(changed)
        )


def _read(one: PairRef, root: Path | None, scorer: Scorer, known: str | None) -> Pair | Reject | None:
    """Open a pair's image; None when the result `known` by that key is its result."""
    try:
        path = image_path(root, one.file_name)
        digest = file_sha256(path) if path.is_file() else None  # what is wrong with it is said on opening
        if digest and known == scorer.key(one.prompt, digest):
            return None
        image = load_image(path)
    except (ImageError, OSError) as error:
        return Reject(key=one.pair_id, kind="image", reason=str(error))
    return Pair(
        pair_id=one.pair_id, prompt=one.prompt, image=image, image_name=one.file_name, file_hash=digest, file=path
    )


def _keep(store: JsonlStore[ScoreRecord], outcome: Outcome) -> None:
    if isinstance(outcome, ScoreRecord):
        store.append(outcome)
    elif outcome is not None:
        if outcome.kind == "failed":
            store.retire(outcome.key)  # an older record would be of another image, prompt or settings
        _reject(outcome, store)


def _reject(reject: Reject, store: JsonlStore[ScoreRecord]) -> None:
    store.reject(reject)
    logger.warning("%s: %s", reject.key, reject.reason)


def _log(summary: RunSummary, store: JsonlStore[ScoreRecord]) -> None:
    logger.info(
        "%d pairs scored in %.1f s (%.2f a second), %d were there before, %d failed%s -> %s",
        summary.made,
        summary.seconds,
        summary.made / max(summary.seconds or 0, 1e-3),
        summary.there_before,
        summary.rejected,
        f" (see {store.rejects_path})" if summary.rejected else "",
        store.path,
    )
