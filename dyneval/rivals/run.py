"""Computing a rival's scores of many pairs into a score table: resume by content, rejects, a summary."""

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
"""Stop after so many failed pairs in a row: the package does not work here, and the other pairs would fail too."""
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
    """What is scored by whom, into which file.

    Attributes:
        name: of `RIVALS`.
        rival: that one.
        model: as its package or server calls it.
        pairs: each pair_id once.
        rejects: rows that were none.
        output: JSONL of RivalScores; a score that was made from the same image, prompt and settings stays.
        root: folder of the images, which they may not leave.
        inputs: files that the pairs were read from, which the output may not be.
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
            # A model trained on has new weights in the folder of old. Hidden files are those of git and of downloads.
            inside = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
            files = [one for one in inside if not any(part.startswith(".") for part in one.relative_to(path).parts)]
            weights = {"weights": f"sha256:{files_sha256(files)}"}
        return {"rival": self.name, "model": self.model, **weights, **self.rival.versions, **self.settings}


def score_here(run: RivalRun, device: str | None = None, batch_size: int | None = None) -> RunSummary:
    """Score pairs with a package in this process; it is loaded when there is something to score.

    Raises:
        SettingError: the package is not here, or the model is none of its own.
        DataFileError: the output holds something else.
        RivalError: the package fails for every pair.
    """
    with _Output(run) as table:
        first = next(table.todo, None)
        if first is not None:
            _BatchScorer(run.rival.load(run.name, run.model, device), table, batch_size).score(first)
    return table.summary()


def score_by_chat(
    run: RivalRun, engine: Callable[[], ChatEngine], instruction: Instruction, concurrency: int
) -> RunSummary:
    """Score pairs by a chat model behind a server.

    Raises:
        EngineStopped: the server is gone; what it gave is kept.
        DataFileError: the output holds something else.
    """
    from dyneval.rivals.chat import judge

    with _Output(run) as table:
        asyncio.run(judge(engine(), instruction, table.todo, table.keep, table.refuse, concurrency))
    return table.summary()


def _refuse_others(run: RivalRun) -> None:
    """Of one file one rival is compared: rows of another, or of DynEval, are not mixed with this one's."""
    refuse_foreign(run.output, RivalScore.KEY)
    try:
        found = {(row.rival, row.model) for row in read_records(run.output, RivalScore)}
    except SchemaError as error:
        raise DataFileError(f"{error}; {run.output} is left as it is, name another --output") from error
    for rival, model in found - {(run.name, run.model)}:
        raise DataFileError(f"{run.output}: holds scores of {rival} ({model}); name another --output")


class _Output:
    """The output of a run, and the pairs that it still lacks."""

    def __init__(self, run: RivalRun) -> None:
        if run.output.is_dir():
            raise SettingError(f"--output {run.output}: is a folder; name a JSONL file")
        self.run = run
        self.beside = run.output.with_name(f"{run.output.stem}.summary.json")
        refuse_overwrite(run.inputs, [run.output, self.beside, rejects_beside(run.output)])
        if run.output.exists():
            _refuse_others(run)  # opening the store already clears the rejects beside it
        if not run.root.is_dir():
            raise DataFileError(f"{run.root}: no such image folder")
        self.store = JsonlStore(run.output, RivalScore, latest_only=True)
        self.settings = run.depends_on()
        self.truncated = 0

    def __enter__(self) -> _Output:
        self.started = time.perf_counter()
        with ExitStack() as stack:
            stack.enter_context(self.store)
            for row in self.run.rejects:
                self.store.reject(row)
            self.bar = stack.enter_context(progress.bar(self.run.name, len(self.run.pairs), "pair"))
            self.todo = stack.enter_context(closing(self._todo()))  # closing it ends the threads that open images
            self._open_things = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open_things.__exit__(*error)

    def _todo(self) -> Generator[OpenedPair, None, None]:
        """Yield the pairs to score, opened in threads ahead; passes by those whose score holds, and broken images."""
        for found in ahead((partial(self._open, pair, self._known(pair)) for pair in self.run.pairs), _THREADS):
            if isinstance(found, OpenedPair):
                yield found
                continue
            if isinstance(found, Reject):
                self._reject(found)
            self.bar.update()

    def _open(self, pair: PairRef, known: str | None) -> OpenedPair | Reject | None:
        try:
            path = image_path(self.run.root, pair.file_name)
            digest = file_sha256(path) if path.is_file() else ""
            key = content_key(pair.prompt, digest, self.settings)
            if known == key:
                return None
            return OpenedPair(pair, path, load_image(path), key)
        except (ImageError, OSError) as error:
            return Reject(key=pair.pair_id, kind="image", reason=str(error))

    def _known(self, pair: PairRef) -> str | None:
        """Key of the score that there is; read in this thread, since the store has one place of reading."""
        return getattr(self.store.get(pair.pair_id), "key", None)

    def keep(self, one: OpenedPair, computed: ComputedScore) -> None:
        """Write a score. One that is no number is a reject."""
        if not math.isfinite(computed.score):
            self.refuse(one, "failed", f"its score is {computed.score}")
            return
        self.store.append(
            RivalScore(
                pair_id=one.pair.pair_id,
                prompt=one.pair.prompt,
                image=one.pair.file_name,
                score=computed.score,
                t2ia=computed.t2ia,
                iqa=computed.iqa,
                raw=computed.raw,
                truncated=computed.truncated or None,
                rival=self.run.name,
                model=self.run.model,
                settings=self.settings,
                key=one.key,
            )
        )
        self.truncated += bool(computed.truncated)
        self.bar.update()

    def refuse(self, one: OpenedPair, kind: RejectKind, reason: str) -> None:
        """Write that a pair has no score; one from before would be of another image, prompt or setting."""
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

    def __init__(self, rival: LocalRival, table: _Output, batch_size: int | None) -> None:
        self.rival = rival
        self.table = table
        self.size = batch_size or table.run.rival.batch_size
        self.failures = 0

    def score(self, first: OpenedPair) -> None:
        """Score `first` and all pairs behind it."""
        batch = [first, *islice(self.table.todo, self.size - 1)]
        while batch:
            for outcome in in_halves(self._scored, batch, self._too_large):
                if isinstance(outcome, TooLarge):
                    self.table.refuse(outcome.item, "failed", outcome.reason)
                else:
                    self._keep(*outcome)
            batch = list(islice(self.table.todo, self.size))

    def _too_large(self, pairs: int) -> None:
        self.size = max(1, pairs // 2)

    def _scored(self, batch: Sequence[OpenedPair]) -> Iterable[tuple[OpenedPair, ComputedScore | Exception]]:
        try:
            computed = self.rival.score([one.image for one in batch], [one.pair.prompt for one in batch])
            return list(zip(batch, computed, strict=True))
        except Exception as error:  # whatever somebody else's package raises about one image
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            if len(batch) == 1:
                return [(batch[0], error)]
        return [found for one in batch for found in self._scored([one])]

    def _keep(self, one: OpenedPair, found: ComputedScore | Exception) -> None:
        if isinstance(found, ComputedScore):
            self.failures = 0
            self.table.keep(one, found)
            return
        reason = f"{type(found).__name__}: {found}"
        self.failures += 1
        if self.failures == FAILURES:
            raise RivalError(
                f"{self.table.run.rival.title} failed {FAILURES} times in a row, last: {reason}"
            ) from found
        self.table.refuse(one, "failed", reason)
