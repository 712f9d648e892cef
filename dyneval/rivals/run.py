"""Compute a rival's scores of many pairs into one table: resume, rejects, a summary.

A pair is scored once for each content: its row has a key made of image, prompt and settings, and a second run scores
only the pairs whose key has changed. Without that, a table would mix scores of different images, weights or versions of
a package, and `dyneval benchmark --compare` would compare them as one metric.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyneval.errors import DataFileError, ImageError, SchemaError, SettingError
from dyneval.files.atomic import refuse_overwrite, write_summary
from dyneval.files.images import image_path, load_image
from dyneval.files.jsonl import read_records, refuse_foreign
from dyneval.files.pairs import PairRef
from dyneval.files.store import JsonlStore, rejects_beside
from dyneval.hashing import content_key, file_sha256, files_sha256
from dyneval.records import Reject, RejectKind, RivalScore, RunSummary
from dyneval.rivals.registry import ComputedScore, LocalRival, Rival, RivalError
from dyneval.work import progress
from dyneval.work.ahead import ahead
from dyneval.work.batches import TooLarge, in_halves, out_of_memory

if TYPE_CHECKING:
    from PIL import Image

    from dyneval.llm.chat import ChatEngine
    from dyneval.rivals.chat import Instruction

logger = logging.getLogger(__name__)

FAILURES = 20
"""Stop after so many failed pairs in a row.

One failure may be a strange image; 20 in a row mean that the package does not work here, and going on would only write
a reject for each remaining pair.
"""
# Threads that open and decode images while the model computes.
_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class OpenedPair:
    """A pair to be scored, its image, and the key of the score that it will get."""

    pair: PairRef
    path: Path
    image: Image.Image
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RivalRun:
    """Which rival scores which pairs, into which file.

    Attributes:
        name: of the rival, a key of `RIVALS`.
        rival: its entry there.
        model: as the rival's package or server calls it, or a file or folder of weights.
        pairs: the pairs to score, each pair_id once.
        rejects: rows of the input that hold no pair; they are written beside the table.
        output: JSONL of RivalScores; a score that was made from the same image, prompt and settings stays.
        root: folder of the images; a path that leads out of it is a reject.
        inputs: files that the pairs were read from; the output may be none of them.
        settings: what else the scores depend on.
    """

    name: str
    rival: Rival
    model: str
    pairs: Sequence[PairRef]
    output: Path
    root: Path
    inputs: Sequence[Path] = ()
    rejects: Sequence[Reject] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def depends_on(self) -> dict[str, Any]:
        """All that a score depends on beside image and prompt; the files of a local model are read for it."""
        weights = {}
        path = Path(self.model)
        if self.model and not self.rival.is_chat and path.exists():
            # Training may write new weights into the same folder. Hidden files are those of git and of downloads.
            inside = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
            files = [one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts)]
            weights = {"weights": f"sha256:{files_sha256(files)}"}
        return {"rival": self.name, "model": self.model, **weights, **self.rival.versions, **self.settings}


def score_here(run: RivalRun, device: str | None = None, batch_size: int | None = None) -> RunSummary:
    """Score pairs with a package in this process; it is loaded when there is something to score.

    Args:
        run: the pairs and the table.
        device: torch device; None takes a GPU where there is one.
        batch_size: images at a time, halved where memory runs out; None takes the rival's own.

    Raises:
        SettingError: the package is not here, or does not know the model.
        DataFileError: the output holds something else.
        RivalError: the package fails for every pair.
    """
    with _RivalTable(run) as table:
        first = next(table.todo, None)
        if first is not None:
            _BatchScorer(run.rival.load(run.name, run.model, device), table, batch_size).score(first)
    return table.summary()


def score_by_chat(
    run: RivalRun, engine: Callable[[], ChatEngine], instruction: Instruction, concurrency: int
) -> RunSummary:
    """Score pairs by a chat model behind a server.

    Args:
        run: the pairs and the table.
        engine: makes the client of the server.
        instruction: what the model is told.
        concurrency: requests in flight at once.

    Raises:
        EngineStopped: the server is gone; what it gave is kept.
        DataFileError: the output holds something else.
    """
    from dyneval.rivals.chat import judge

    with _RivalTable(run) as table:
        asyncio.run(judge(engine(), instruction, table.todo, table.keep, table.refuse, concurrency))
    return table.summary()


class _RivalTable:
    """The table that a run writes, and the pairs that it still lacks."""

    def __init__(self, run: RivalRun) -> None:
        if run.output.is_dir():
            raise SettingError(f"--output {run.output}: is a folder; name a JSONL file")
        self.run = run
        self.beside = run.output.with_name(f"{run.output.stem}.summary.json")
        refuse_overwrite(run.inputs, [run.output, self.beside, rejects_beside(run.output)])
        # Before the store is opened, which clears the rejects beside the table. `benchmark` takes all rows of a file
        # for one evaluator's, so rows of another rival, or of DynEval, are not mixed in.
        if run.output.exists():
            refuse_foreign(run.output, RivalScore.KEY)
            try:
                found = {(row.rival, row.model) for row in read_records(run.output, RivalScore)}
            except SchemaError as error:
                raise DataFileError(f"{error}; {run.output} is left as it is, name another --output") from error
            for rival, model in found - {(run.name, run.model)}:
                raise DataFileError(f"{run.output}: holds scores of {rival} ({model}); name another --output")
        if not run.root.is_dir():
            raise DataFileError(f"{run.root}: no such image folder")
        self.store = JsonlStore(run.output, RivalScore, latest_only=True)
        self.settings = run.depends_on()
        self.truncated = 0

    def __enter__(self) -> _RivalTable:
        self.started = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(self.store)
            for row in self.run.rejects:
                self.store.reject(row)
            self.bar = stack.enter_context(progress.bar(self.run.name, len(self.run.pairs), "pair"))
            # Closing the generator ends the threads that open images.
            self.todo = stack.enter_context(closing(self._todo()))
            # Only here, when all are open: an error above closes those that were.
            self._open_things = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open_things.__exit__(*error)

    def _todo(self) -> Generator[OpenedPair, None, None]:
        """Yield the pairs to score, opened in threads ahead; passes by those whose score holds, and broken images."""
        # The old key is looked up here and not in a thread: the store has one place of reading in its file.
        keys = ((pair, getattr(self.store.get(pair.pair_id), "key", None)) for pair in self.run.pairs)
        for found in ahead((partial(self._open, pair, key) for pair, key in keys), _THREADS):
            if isinstance(found, OpenedPair):
                yield found
                continue
            if isinstance(found, Reject):
                self._reject(found)
            self.bar.update()

    def _open(self, pair: PairRef, known: str | None) -> OpenedPair | Reject | None:
        """Open a pair's image; None where the score with the key `known` still holds."""
        try:
            path = image_path(self.run.root, pair.file_name)
            digest = file_sha256(path) if path.is_file() else ""
            key = content_key(pair.prompt, digest, self.settings)
            if known == key:
                return None
            return OpenedPair(pair, path, load_image(path), key)
        except (ImageError, OSError) as error:
            return Reject(key=pair.pair_id, kind="image", reason=str(error))

    def keep(self, one: OpenedPair, scores: ComputedScore) -> None:
        """Write a score. One that is no number is a reject."""
        if not math.isfinite(scores.score):
            self.refuse(one, "failed", f"its score is {scores.score}")
            return
        self.store.append(
            RivalScore(
                pair_id=one.pair.pair_id,
                prompt=one.pair.prompt,
                image=one.pair.file_name,
                score=scores.score,
                t2ia=scores.t2ia,
                iqa=scores.iqa,
                raw=scores.raw,
                # False is left out of the row: most rivals read every prompt whole.
                truncated=scores.truncated or None,
                rival=self.run.name,
                model=self.run.model,
                settings=self.settings,
                key=one.key,
            )
        )
        self.truncated += bool(scores.truncated)
        self.bar.update()

    def refuse(self, one: OpenedPair, kind: RejectKind, reason: str) -> None:
        """Write that a pair has no score."""
        # A score from before would be of another image, prompt or setting.
        self.store.retire(one.pair.pair_id)
        self._reject(Reject(key=one.pair.pair_id, kind=kind, reason=reason))
        self.bar.update()

    def _reject(self, reject: Reject) -> None:
        self.store.reject(reject)
        logger.warning("%s: %s", reject.key, reject.reason)

    def summary(self) -> RunSummary:
        """Write and return what the run did."""
        store = self.store
        total = len(self.run.pairs) + len(self.run.rejects)
        summary = RunSummary(
            made=store.written,
            there_before=total - store.written - store.rejected,
            rejected=store.rejected,
            seconds=round(time.perf_counter() - self.started, 3),
        )
        write_summary(self.beside, summary, {"settings": self.settings, "truncated": self.truncated})
        if self.truncated:
            logger.warning(
                "%d prompts are longer than %s reads and were cut (truncated in the table)",
                self.truncated,
                self.run.rival.title,
            )
        logger.info(
            "%s: %d pairs scored, %d were there before, %d failed -> %s",
            self.run.rival.title,
            summary.made,
            summary.there_before,
            summary.rejected,
            store.path,
        )
        return summary


class _BatchScorer:
    """Scores pairs in batches: halves where memory runs out, one by one where a batch fails."""

    def __init__(self, rival: LocalRival, table: _RivalTable, batch_size: int | None) -> None:
        self.rival = rival
        self.table = table
        self.size = batch_size or table.run.rival.batch_size
        self.failures = 0

    def score(self, first: OpenedPair) -> None:
        """Score `first` and all pairs behind it.

        Raises:
            RivalError: `FAILURES` pairs in a row failed.
        """
        batch = [first, *islice(self.table.todo, self.size - 1)]
        while batch:
            for outcome in in_halves(self._scored, batch, self._too_large):
                if isinstance(outcome, TooLarge):
                    self.table.refuse(outcome.item, "failed", outcome.reason)
                    continue
                one, found = outcome
                if isinstance(found, ComputedScore):
                    self.failures = 0
                    self.table.keep(one, found)
                    continue
                reason = f"{type(found).__name__}: {found}"
                self.failures += 1
                if self.failures == FAILURES:
                    title = self.table.run.rival.title
                    raise RivalError(f"{title} failed {FAILURES} times in a row, last: {reason}") from found
                self.table.refuse(one, "failed", reason)
            batch = list(islice(self.table.todo, self.size))

    def _too_large(self, pairs: int) -> None:
        # The size stays halved: the next batch of as many images would run out of memory again.
        self.size = max(1, pairs // 2)

    def _scored(self, batch: Sequence[OpenedPair]) -> Iterable[tuple[OpenedPair, ComputedScore | Exception]]:
        try:
            computed = self.rival.score([one.image for one in batch], [one.pair.prompt for one in batch])
            return list(zip(batch, computed, strict=True))
        # Somebody else's package may raise anything about one image. Memory is `in_halves`' matter.
        except Exception as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            if len(batch) == 1:
                return [(batch[0], error)]
        # One image spoils the batch that it is in, so the images are tried one by one.
        return [found for one in batch for found in self._scored([one])]
