"""Scoring many pairs into a file: scores.jsonl, with resume by content, rejects and a summary.

A run may take days and be killed at any time, and its images, prompts or weights may change before the next one. So
each record has a key of what it is made from. The next run scores the pairs whose key has changed, and no others; a
pair that fails stands in the rejects with its reason, never in the scores.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

from dyneval.errors import DataFileError, ImageError, SchemaError, SettingError
from dyneval.files.atomic import refuse_overwrite, write_summary
from dyneval.files.captioned import GatheredPairs
from dyneval.files.images import image_path, load_image
from dyneval.files.jsonl import read_records, refuse_foreign, whole_lines
from dyneval.files.pairs import PairRef, metadata_file, read_pairs
from dyneval.files.parts import Shard
from dyneval.files.store import JsonlStore, rejects_beside
from dyneval.files.tables import rows
from dyneval.hashing import file_sha256
from dyneval.loaded_pairs import Failure, LoadedPair
from dyneval.records import Reject, RunSummary, ScoreRecord
from dyneval.replies import as_in_key
from dyneval.scorer.four_passes import Question
from dyneval.scorer.scorer import Scorer
from dyneval.work import progress
from dyneval.work.ahead import ahead
from dyneval.work.executors import Executor, Here, Lost, Ray

logger = logging.getLogger(__name__)

_THREADS = min(8, os.cpu_count() or 1)
"""Threads that hash and decode image files ahead of the student, which would wait for the disk otherwise."""


Outcome = ScoreRecord | Reject | None
"""What became of a pair: a new record, why there is none, or None where its old record still holds."""
Known = Callable[[str], str | None]
"""Returns the key of the record that there is of a pair_id, or None."""

# One score among them is enough: rows that cannot be read are scored again, and must not stop the run.
_LOOKED_AT = 100
"""Rows of an output of which one at least has to be a score, or the file is not taken for ours."""
# The scorer waits for a window of pairs to score. In a run that is resumed nearly all pairs are done, and the few that
# are not would be held back, and the progress with them, until a window is full.
_STRETCH = 256
"""Pairs in a row that need no score, after which those read before are scored at once."""


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

    Returns:
        The counts of this run: pairs scored, there before, and rejected.

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
    # A relative folder would be another one there: the processes of Ray have a current folder of their own.
    return _score(cluster, partial(ScoringWorker, load, root.resolve()), wanted, bad, target)


def score_refs(
    load: Callable[[], Scorer], gathered: GatheredPairs, output: Path, inputs: Sequence[Path] = ()
) -> RunSummary:
    """Score pairs that stand in no table, such as the images of a folder.

    Args:
        load: as of `score_file`.
        gathered: the pairs, and what could not be read.
        output: as of `score_file`.
        inputs: as of `score_file`.

    Returns:
        As `score_file`.

    Raises:
        DataFileError: as of `score_file`.
        SettingError: as of `score_file`.
    """
    root = gathered.root or Path()
    check_output(output, [*(root / one.file_name for one in gathered.refs), *inputs])
    return _score_here(load(), gathered.root, gathered.refs, gathered.rejects, output)


def check_output(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that must not be written to, before a student is loaded or anything is written.

    Args:
        output: JSONL of scores, which may exist.
        inputs: files that are read; neither `output` nor what is written beside it may be one of them.

    Raises:
        SettingError: `output` is a folder or an input.
        DataFileError: it holds something else than scores.
    """
    if output.is_dir():
        raise SettingError(f"--output {output}: is a folder; name a JSONL file")
    beside = (rejects_beside(output), _summary_beside(output), output.with_name(f"{output.name}.superseded"))
    refuse_overwrite(inputs, [output, *beside])
    if output.exists():
        refuse_foreign(output, ScoreRecord.KEY)
        begun = list(islice(whole_lines(output), _LOOKED_AT))
        for line in begun:
            with suppress(SchemaError):
                ScoreRecord.decode(line)
                break
        else:
            if begun:
                raise DataFileError(f"{output}: holds no scores; it is left as it is, name another --output")


def _summary_beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}.summary.json")


def tell_unused_questions(scorer: Scorer, prompts: Iterable[str]) -> None:
    """Log the prompts that questions were given for although no pair has them."""
    if unused := scorer.unused_questions(prompts):
        shown = ", ".join(f"{prompt[:60]!r}" for prompt in unused[:3]) + (", ..." if len(unused) > 3 else "")
        logger.warning("questions of %d prompts are not used, since no pair has such a prompt: %s", len(unused), shown)


def read_questions(path: Path) -> dict[str, list[Question]]:
    """Read T2IA questions from rows with `prompt` and `questions`, as Step 3 and `dyneval` write them.

    Args:
        path: JSONL or another table; records of scores, with `t2ia_questions`, will do as well.

    Returns:
        By prompt, a list of {"question", "answer"}.

    Raises:
        DataFileError: the file cannot be read, has no rows, or a row has no prompt or no list of questions.
    """
    questions: dict[str, list[Question]] = {}
    for number, row in enumerate(rows(path), 1):
        prompt, asked = row.get("prompt"), row.get("questions", row.get("t2ia_questions"))
        if not isinstance(prompt, str) or not prompt.strip() or not isinstance(asked, list):
            raise DataFileError(f"{path}: row {number}: expected `prompt` and `questions`")
        questions[prompt] = []
        for one in asked:
            text = one.get("question") if isinstance(one, dict) else None
            if not isinstance(text, str) or not text.strip():
                raise DataFileError(
                    f"{path}: row {number}: expected questions with a text `question`, found {str(one)[:80]}"
                )
            questions[prompt].append({"question": text, "answer": one.get("answer")})
    if not questions:
        raise DataFileError(f"{path}: holds no questions; expected rows with `prompt` and `questions`")
    return questions


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """Some pairs for a worker, and what is known of them."""

    wanted: Sequence[PairRef]
    known: Known
    """Pickled on its way to Ray, so there it is the method of a small dict and not of the whole store."""


class ScoringWorker:
    """Scores tasks with one student, in this process or on Ray; see `dyneval.work.executors`.

    Attributes:
        scorer: the student.
        root: the folder of the images, which they may not leave; None: they may be anywhere.
    """

    def __init__(self, load: Callable[[], Scorer], root: Path | None, device: str) -> None:
        """Load the student; `load` knows its device, which is a setting of the student."""
        self.scorer = load()
        self.root = root

    def work(self, task: ScoringTask) -> Generator[Outcome, None, None]:
        """Yield what becomes of each pair, in any order; those whose record holds are not scored."""
        readings = (partial(_read, one, self.root, self.scorer, task.known(one.pair_id)) for one in task.wanted)
        found = ahead(readings, _THREADS)
        # What `_changed` meets between two pairs to score. It is a generator inside of the scorer, so it cannot yield
        # these outcomes itself.
        passed: list[Outcome] = []
        for one in found:
            if not isinstance(one, LoadedPair):
                yield one
                continue
            for result in self.scorer.score_unordered(_changed(chain([one], found), passed)):
                yield from passed
                passed.clear()
                if isinstance(result, Failure):
                    yield Reject(key=result.pair_id, kind="failed", reason=result.reason)
                else:
                    yield result
            yield from passed
            passed.clear()

    def close(self) -> None:
        """Nothing to free that does not go with the process."""


def _changed(found: Iterator[LoadedPair | Reject | None], passed: list[Outcome]) -> Iterator[LoadedPair]:
    """Yield the pairs to score, up to a long stretch of others; the outcomes of those go to `passed`."""
    for one in found:
        if isinstance(one, LoadedPair):
            yield one
        else:
            passed.append(one)
            if len(passed) >= _STRETCH:
                return


def _score_here(
    scorer: Scorer, root: Path | None, wanted: Sequence[PairRef], bad: Sequence[Reject], output: Path
) -> RunSummary:
    """Score in this process, and tell first what makes the run longer than its user may expect."""
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
    """Have pairs scored by the workers of an executor, and write what becomes of them.

    Args:
        executor: where workers work.
        make_worker: makes one, given the name of its device.
        wanted: the pairs.
        bad: rows of the table that are no pairs.
        output: JSONL of ScoreRecords, checked by `check_output`.
    """
    started = time.perf_counter()
    with JsonlStore(output, ScoreRecord, latest_only=True) as store:
        for row in bad:
            _keep(store, row)
        tasks = _tasks(executor, wanted, partial(_key, store))
        with (
            progress.bar("scoring", len(wanted), "pair") as bar,
            closing(executor.run(make_worker, tasks)) as found,
        ):
            for done in found:
                outcomes: Iterable[Outcome]
                if isinstance(done, Lost):  # the worker died, and with it what it knew about this task
                    outcomes = [Reject(key=one.pair_id, kind="engine", reason=done.reason) for one in done.task.wanted]
                else:
                    outcomes = done.items
                for outcome in outcomes:
                    _keep(store, outcome)
                    bar.update()
        # Counted by what is left: of these pairs nothing was yielded but None.
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
    logger.info(
        "%d pairs scored in %.1f s (%.2f a second), %d were there before, %d failed%s -> %s",
        summary.made,
        seconds,
        summary.made / max(seconds, 1e-3),
        there_before,
        summary.rejected,
        f" (see {store.rejects_path})" if summary.rejected else "",
        store.path,
    )
    return summary


def _key(store: JsonlStore[ScoreRecord], pair_id: str) -> str | None:
    """Return the key of the record that there is; None too for a row that is no record, which is then scored again."""
    try:
        return getattr(store.get(pair_id), "key", None)
    except SchemaError as error:
        logger.warning("%s; scored again", error)
        return None


def _tasks(executor: Executor, wanted: Sequence[PairRef], known: Known) -> Iterator[ScoringTask]:
    """Yield all pairs as one task for a worker in this process, which looks into the file; on Ray some at a time."""
    if not isinstance(executor, Ray):
        yield ScoringTask(wanted, known)
        return
    for start in range(0, len(wanted), executor.batch):
        part = wanted[start : start + executor.batch]
        yield ScoringTask(part, {one.pair_id: known(one.pair_id) for one in part}.get)


def _tell_changes(output: Path, scorer: Scorer) -> None:
    """Log what differs from the run before, since that costs scoring all over again.

    The first record of the file stands for the run that made it.
    """
    try:
        first = next(read_records(output, ScoreRecord), None) if output.exists() else None
    except SchemaError:  # its pair is scored again, which is told then
        first = None
    if first is None:
        return
    wanted = {"model": scorer.name, "template": scorer.settings.template, **as_in_key(scorer.score_settings())}
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


def _read(one: PairRef, root: Path | None, scorer: Scorer, known: str | None) -> LoadedPair | Reject | None:
    """Open a pair's image, in a thread; returns None when its record has the key that it would get again."""
    try:
        path = image_path(root, one.file_name)
        # Hashed first: of a run that is resumed most images are not decoded at all.
        digest = file_sha256(path) if path.is_file() else None  # what is wrong with it is said on opening
        if digest and known == scorer.key(one.prompt, digest):
            return None
        image = load_image(path)
    except (ImageError, OSError) as error:
        return Reject(key=one.pair_id, kind="image", reason=str(error))
    return LoadedPair(
        pair_id=one.pair_id, prompt=one.prompt, image=image, image_name=one.file_name, file_hash=digest, file=path
    )


def _keep(store: JsonlStore[ScoreRecord], outcome: Outcome) -> None:
    """Write what became of a pair, or of a row of the table that is none."""
    if isinstance(outcome, ScoreRecord):
        store.append(outcome)
    elif outcome is not None:
        # An older record would be of another image, prompt or settings. Where the image cannot be opened, or the worker
        # died, nothing is known about that, and the record stays.
        if outcome.kind == "failed":
            store.retire(outcome.key)
        store.reject(outcome)
        logger.warning("%s: %s", outcome.key, outcome.reason)
