"""Annotates given pairs: finished records are passed over, every failure is told to its ledger and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from dyneval.errors import ImageError, SchemaError
from dyneval.files.origins import other_origin
from dyneval.llm.chat import ChatError, Refused, RejectedReply
from dyneval.records import (
    NEEDS,
    Annotation,
    IQAQuestions,
    PairRecord,
    Reject,
    RejectKind,
    T2IAQuestions,
    Workflow,
    key_of,
)
from dyneval.teacher import workflows
from dyneval.teacher.asking import Teacher

logger = logging.getLogger(__name__)

FINISHED_TOGETHER = 500
"""So many finished pairs are passed over, and told of, at once."""


class Source(Protocol):
    """Annotations by key."""

    def get(self, key: str) -> Any:
        """Return the annotation of `key`, or None."""
        ...


class Ledger(Source, Protocol):
    """Where the records of a workflow go, and which there are."""

    done: set[str]

    def append(self, record: Any) -> None:
        """Add a finished annotation. Raises SchemaError where it does not hold what its type says."""
        ...

    def reject(self, reject: Reject) -> None:
        """Record that an annotation could not be made, and why."""
        ...


def is_complete(pair: PairRecord, stores: Mapping[Workflow, Ledger]) -> bool:
    """True when no workflow has anything left to do for the pair."""
    return all(key_of(name, pair) in store.done for name, store in stores.items())


class Annotator:
    """Brings pairs to completion in the ledgers of the workflows it is asked for."""

    def __init__(
        self,
        teacher: Teacher,
        root: Path,
        stores: Mapping[Workflow, Ledger],
        given_up: Mapping[Workflow, set[str]],
        inputs: Mapping[Workflow, Source],
        passed: Callable[[int, int], None],
    ) -> None:
        """Take what is known.

        Args:
            teacher: whom to ask.
            root: folder of the images, which they may not leave.
            stores: the workflows to run, and where their records go.
            given_up: keys by workflow that are not asked for again.
            inputs: records of workflows that are not run but needed.
            passed: told how many pairs were gone through, and how many of them were not finished before.
        """
        self.teacher = teacher
        self.root = root
        self.stores = stores
        self.given_up = given_up
        self.sources: dict[Workflow, Source] = {**inputs, **stores}
        self._asked: dict[str, asyncio.Task[Annotation | None]] = {}
        self._passed = passed
        self._finished = 0

    async def work(self, pairs: Iterator[PairRecord], concurrency: int) -> None:
        """Annotate all pairs, `concurrency` of them at once. Raises EngineStopped."""
        workers = [asyncio.create_task(self._worker(pairs)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            self._passed(self._finished % FINISHED_TOGETHER, 0)
            for worker in (*workers, *self._asked.values()):
                worker.cancel()
            await asyncio.gather(*workers, *self._asked.values(), return_exceptions=True)

    async def _worker(self, pairs: Iterator[PairRecord]) -> None:
        for pair in pairs:
            if not is_complete(pair, self.stores):
                await self._annotate(pair)
                self._passed(1, 1)
                continue
            self._finished += 1
            if self._finished % FINISHED_TOGETHER == 0:
                self._passed(FINISHED_TOGETHER, 0)
                await asyncio.sleep(0)  # let the others work while finished pairs are passed over

    async def _annotate(self, pair: PairRecord) -> None:
        questions = await self._t2ia_questions(pair)
        # Both image requests go out together, while the server has the image at hand.
        picture = workflows.Picture(self.root, pair)
        await workflows.both(self._t2ia_answers(pair, picture, questions), self._iqa(pair, picture))

    async def _t2ia_questions(self, pair: PairRecord) -> Annotation | None:
        """Questions of the pair's prompt: asked once, awaited by all its images."""
        if "t2ia_questions" not in self.sources:
            return None
        key = pair.prompt_id
        if key not in self._asked:
            ask = self._record("t2ia_questions", pair, lambda: workflows.t2ia_questions(self.teacher, key, pair.prompt))
            task = self._asked[key] = asyncio.create_task(ask)
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(self._asked[key])

    async def _t2ia_answers(self, pair: PairRecord, picture: workflows.Picture, known: Annotation | None) -> None:
        await self._answers("t2ia_answers", pair, picture, known)

    async def _iqa(self, pair: PairRecord, picture: workflows.Picture) -> None:
        if "iqa_questions" not in self.sources:
            return
        known = await self._record("iqa_questions", pair, lambda: workflows.iqa_questions(self.teacher, pair, picture))
        await self._answers("iqa_answers", pair, picture, known)

    async def _answers(
        self, name: Workflow, pair: PairRecord, picture: workflows.Picture, known: Annotation | None
    ) -> None:
        if name not in self.stores or self._is_finished(name, pair.pair_id):
            return
        if not isinstance(known, T2IAQuestions | IQAQuestions):
            self._reject(name, pair, f"there are no {NEEDS[name]} for it", "dependency")
            return
        if NEEDS[name] not in self.stores and (reason := other_origin(known, pair, self.root)):
            self._reject(name, pair, f"its {NEEDS[name]} were {reason}; ask for them first", "dependency")
            return
        ask = workflows.t2ia_answers if name == "t2ia_answers" else workflows.iqa_answers
        await self._record(name, pair, lambda: ask(self.teacher, pair, picture, known.questions))

    async def _record(
        self, name: Workflow, pair: PairRecord, make: Callable[[], Awaitable[Annotation]]
    ) -> Annotation | None:
        """Make, check and append the annotation of a pair; return it, or None where there is none."""
        key = key_of(name, pair)
        if name not in self.stores or self._is_finished(name, key):
            return self._known(name, key)
        try:
            record = await make()
            self.stores[name].append(record)
        except RejectedReply as error:
            self._reject(name, pair, str(error), "reply", attempts=error.attempts, raw=error.raw)
        except SchemaError as error:
            self._reject(name, pair, str(error), "reply")
        except ImageError as error:
            self._reject(name, pair, str(error), "image")
        except Refused as error:
            self._reject(name, pair, str(error), "refused")
        except ChatError as error:
            self._reject(name, pair, str(error), "engine")
        else:
            return record
        return None

    def _is_finished(self, name: Workflow, key: str) -> bool:
        return key in self.stores[name].done or key in self.given_up[name]

    def _known(self, name: Workflow, key: str) -> Annotation | None:
        if key in self.given_up.get(name, ()) or all(NEEDS.get(other) != name for other in self.stores):
            return None
        known: Annotation | None = self.sources[name].get(key)
        return known

    def _reject(self, name: Workflow, pair: PairRecord, reason: str, kind: RejectKind, **detail: Any) -> None:
        key = key_of(name, pair)
        origin = {"prompt": pair.prompt} | ({} if name == "t2ia_questions" else {"image_sha256": pair.sha256})
        self.stores[name].reject(Reject(key=key, kind=kind, reason=reason, detail=origin | detail))
        self.given_up[name].add(key)  # the other images of a prompt do not ask for it again in this run
        if kind != "dependency":
            logger.warning("%s: %s: %s", name, key, reason)
