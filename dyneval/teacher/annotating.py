"""Asks the teacher for the annotations that pairs still lack, several pairs at once.

This is the order of Step 3 for one pair: the questions of its prompt, then the answers to them and the scene graph with
its questions, then the answers to those. What is finished is not asked for again, which is how an interrupted run goes
on. Every annotation ends either as an `EncodedAnnotation` or as a `RejectedAnnotation` with its reason; if one ended as
neither, a pair would be missing from the files without a word.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dyneval.errors import ImageError, SchemaError
from dyneval.files.origins import other_origin
from dyneval.files.store import JsonlIndex, JsonlStore
from dyneval.llm.chat import ChatError, Refused, RejectedReply, TokenTally
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
from dyneval.work.ahead import together

logger = logging.getLogger(__name__)

# An event for each finished pair would make the resume of a run over a million pairs a million events.
FINISHED_TOGETHER = 500
"""Finished pairs that are skipped, and reported, at once."""


@dataclass(frozen=True, slots=True)
class EncodedAnnotation:
    """A finished annotation, checked, as the line that stands in the file."""

    workflow: Workflow
    key: str
    line: bytes


@dataclass(frozen=True, slots=True)
class RejectedAnnotation:
    """An annotation that could not be made, and why."""

    workflow: Workflow
    reject: Reject


@dataclass(frozen=True, slots=True)
class PairsPassed:
    """Counts since the last such event.

    Attributes:
        pairs: pairs gone through.
        annotated: those among them that were not finished before this run.
        asked: requests and tokens.
    """

    pairs: int
    annotated: int
    asked: TokenTally


AnnotationEvent = EncodedAnnotation | RejectedAnnotation | PairsPassed
AnnotationSource = JsonlStore[Any] | JsonlIndex[Any] | Mapping[str, Annotation]
"""Finished annotations by key: their file, or copies of some. `get` returns None for a key that is not there."""


def is_complete(pair: PairRecord, done: Mapping[Workflow, set[str]]) -> bool:
    """True when no workflow of `done`, the keys of the finished annotations, has anything left to do for the pair."""
    return all(key_of(name, pair) in keys for name, keys in done.items())


@dataclass(kw_only=True)
class Ledger:
    """The annotations of one workflow as the worker knows them: the finished ones, and its own until they are written.

    Attributes:
        known: annotations that were there before.
        done: keys of the finished annotations; grows.
    """

    name: Workflow
    known: AnnotationSource
    done: set[str]
    tell: Callable[[AnnotationEvent], None]
    _unwritten: dict[str, Annotation] = field(default_factory=dict)

    def get(self, key: str) -> Any:
        """Return the annotation of `key`, or None."""
        return self._unwritten.get(key) or self.known.get(key)

    def append(self, record: Annotation) -> None:
        """Report a finished annotation. Raises SchemaError where it does not hold what its type says."""
        # Encoded here and not by the writer: a reply that does not fit its type becomes a reject of this pair.
        line = record.encode()
        key = str(getattr(record, record.KEY))
        self._unwritten[key] = record
        self.done.add(key)
        self.tell(EncodedAnnotation(self.name, key, line))

    def written(self, key: str) -> None:
        """Forget an annotation that the writer has put into the file, if it can be read from there."""
        # On another machine `known` is a dict of copies: there the worker is the only one who has the new record.
        if not isinstance(self.known, dict):
            self._unwritten.pop(key, None)


@dataclass(kw_only=True)
class Annotator:
    """Brings pairs to completion in the workflows of its ledgers.

    Attributes:
        teacher: whom to ask.
        root: folder of the images, which they may not leave.
        ledgers: the workflows to run, and where their annotations go.
        given_up: keys by workflow that are not asked for again; grows.
        sources: annotations by workflow: the ledgers, and those of workflows that are not run but needed.
        tell: called with every event.
    """

    teacher: Teacher
    root: Path
    ledgers: Mapping[Workflow, Ledger]
    given_up: Mapping[Workflow, set[str]]
    sources: Mapping[Workflow, AnnotationSource | Ledger]
    tell: Callable[[AnnotationEvent], None]
    _asked: dict[str, asyncio.Task[Annotation | None]] = field(default_factory=dict)
    _finished: int = 0

    async def work(self, pairs: Iterator[PairRecord], concurrency: int) -> None:
        """Annotate all pairs, `concurrency` of them at once. Raises EngineStopped."""
        try:
            await together(partial(self._worker, pairs), concurrency)
        finally:
            self.tell(PairsPassed(self._finished % FINISHED_TOGETHER, 0, self.teacher.tally.taken()))
            # Questions are asked in tasks of their own (`_t2ia_questions`), which do not end with the workers.
            asked = list(self._asked.values())
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _worker(self, pairs: Iterator[PairRecord]) -> None:
        # All workers share one iterator: each takes the next pair as soon as it is free.
        done = {name: ledger.done for name, ledger in self.ledgers.items()}
        for pair in pairs:
            if not is_complete(pair, done):
                await self._annotate(pair)
                self.tell(PairsPassed(1, 1, self.teacher.tally.taken()))
                continue
            self._finished += 1
            if self._finished % FINISHED_TOGETHER == 0:
                self.tell(PairsPassed(FINISHED_TOGETHER, 0, self.teacher.tally.taken()))
                await asyncio.sleep(0)  # let the others work while finished pairs are skipped

    async def _annotate(self, pair: PairRecord) -> None:
        questions = await self._t2ia_questions(pair)
        # Both requests about the image are sent together, so that the server has the image in its cache for the second.
        picture = workflows.Picture(self.root, pair)
        await workflows.both(self._answers("t2ia_answers", pair, picture, questions), self._iqa(pair, picture))

    async def _t2ia_questions(self, pair: PairRecord) -> Annotation | None:
        """Questions of the pair's prompt: asked once, awaited by all its images."""
        if "t2ia_questions" not in self.sources:
            return None
        key = pair.prompt_id
        if key not in self._asked:
            ask = self._record("t2ia_questions", pair, lambda: workflows.t2ia_questions(self.teacher, key, pair.prompt))
            task = self._asked[key] = asyncio.create_task(ask)
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        # Without the shield, one image that is cancelled would cancel the question for all images of the prompt.
        return await asyncio.shield(self._asked[key])

    async def _iqa(self, pair: PairRecord, picture: workflows.Picture) -> None:
        if "iqa_questions" not in self.sources:
            return
        known = await self._record("iqa_questions", pair, lambda: workflows.iqa_questions(self.teacher, pair, picture))
        await self._answers("iqa_answers", pair, picture, known)

    async def _answers(
        self, name: Workflow, pair: PairRecord, picture: workflows.Picture, known: Annotation | None
    ) -> None:
        if name not in self.ledgers or self._is_finished(name, pair.pair_id):
            return
        if not isinstance(known, T2IAQuestions | IQAQuestions):
            self._reject(name, pair, f"there are no {NEEDS[name]} for it", "dependency")
            return
        # Questions of this run are of this prompt and image; those that a file brings may be of an earlier one.
        if NEEDS[name] not in self.ledgers and (reason := other_origin(known, pair, self.root)):
            self._reject(name, pair, f"its {NEEDS[name]} were {reason}; ask for them first", "dependency")
            return
        ask = workflows.t2ia_answers if name == "t2ia_answers" else workflows.iqa_answers
        await self._record(name, pair, lambda: ask(self.teacher, pair, picture, known.questions))

    async def _record(
        self, name: Workflow, pair: PairRecord, make: Callable[[], Awaitable[Annotation]]
    ) -> Annotation | None:
        """Make, check and append the annotation of a pair; return it, or None where there is none."""
        key = key_of(name, pair)
        if name not in self.ledgers or self._is_finished(name, key):
            # Reading a row takes longer than knowing that it is there, so it is read only for a workflow that needs it.
            is_needed = any(NEEDS.get(other) == name for other in self.ledgers)
            return self.sources[name].get(key) if is_needed and key not in self.given_up.get(name, ()) else None
        try:
            record = await make()
            self.ledgers[name].append(record)
        except RejectedReply as error:
            self._reject(name, pair, str(error), "reply", attempts=error.attempts, raw=error.raw)
        except SchemaError as error:
            self._reject(name, pair, str(error), "reply")
        except ImageError as error:
            self._reject(name, pair, str(error), "image")
        except Refused as error:
            self._reject(name, pair, str(error), "refused")
        except ChatError as error:  # after Refused, which is a ChatError too
            self._reject(name, pair, str(error), "engine")
        else:
            return record
        return None

    def _is_finished(self, name: Workflow, key: str) -> bool:
        return key in self.ledgers[name].done or key in self.given_up[name]

    def _reject(self, name: Workflow, pair: PairRecord, reason: str, kind: RejectKind, **detail: Any) -> None:
        key = key_of(name, pair)
        origin = {"prompt": pair.prompt} | ({} if name == "t2ia_questions" else {"image_sha256": pair.sha256})
        self.tell(RejectedAnnotation(name, Reject(key=key, kind=kind, reason=reason, detail=origin | detail)))
        self.given_up[name].add(key)  # the other images of a prompt do not ask for it again in this run
        if kind != "dependency":
            logger.warning("%s: %s: %s", name, key, reason)
