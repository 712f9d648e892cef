"""The four annotations of a pair. Each function asks the teacher and returns one record, not yet written.

The functions raise what `dyneval.llm.chat.ask` raises, and ImageError. `annotating` turns these into rejects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from dyneval.files.images import read_file, resolve_below
from dyneval.hashing import bytes_sha256
from dyneval.llm.chat import Answer
from dyneval.records import (
    IQAAnswers,
    IQAQuestions,
    PairRecord,
    Provenance,
    Question,
    T2IAAnswers,
    T2IAQuestions,
    Usage,
    Workflow,
)
from dyneval.teacher import prompts
from dyneval.teacher.asking import Teacher
from dyneval.teacher.replies import (
    BOUNDS,
    parse_iqa_answers,
    parse_questions,
    parse_scene,
    parse_t2ia_answers,
    same_question,
)

Questions = Sequence[Question]
T = TypeVar("T")


async def t2ia_questions(teacher: Teacher, prompt_id: str, prompt: str) -> T2IAQuestions:
    """Ask for the alignment and the distortion questions of a prompt, and merge them, alignment first.

    A question that stands in both lists is kept once, as an alignment question.

    Args:
        teacher: whom to ask.
        prompt_id: key of the record.
        prompt: the prompt.
    """
    alignment, distortion = await both(
        teacher.ask(prompts.alignment_request(prompt), partial(parse_questions, most=BOUNDS.alignment)),
        teacher.ask(prompts.distortion_request(prompt), partial(parse_questions, most=BOUNDS.distortion)),
    )
    merged: dict[str, Question] = {}
    for question in alignment.value:
        merged.setdefault(same_question(question.question), replace(question, kind="alignment"))
    for question in distortion.value:
        merged.setdefault(same_question(question.question), replace(question, kind="distortion"))
    return T2IAQuestions(
        prompt_id=prompt_id,
        prompt=prompt,
        questions=tuple(merged.values()),
        provenance=_provenance(teacher, "t2ia_questions", alignment, distortion),
    )


@dataclass
class Picture:
    """The image of a pair, and the SHA-256 of its file, computed once for all that is asked about it."""

    root: Path
    pair: PairRecord
    _digest: asyncio.Future[str] | None = None

    async def read(self) -> tuple[Path, str]:
        """Return the image's path and the SHA-256 of its bytes, in hex.

        Raises:
            ImageError: the path leads out of the folder, or the file cannot be read.
        """
        path = resolve_below(self.root, self.pair.file_name)
        # The annotation says which bytes were seen, so that a later run finds out when the file has been replaced.
        # In a thread: a slow disk would stop all other pairs.
        if self._digest is None:
            self._digest = asyncio.ensure_future(asyncio.to_thread(lambda: bytes_sha256(read_file(path, str(path)))))
        return path, await asyncio.shield(self._digest)


async def t2ia_answers(teacher: Teacher, pair: PairRecord, image: Picture, questions: Questions) -> T2IAAnswers:
    """Ask for the scores (1-5) of an image on its prompt's questions, each with the teacher's reasoning.

    Args:
        teacher: whom to ask.
        pair: whose image it is.
        image: the same image, to be read.
        questions: of the prompt.
    """
    path, digest = await image.read()
    request = prompts.answers_request("t2ia", path, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_t2ia_answers(text, questions))
    return T2IAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        image_sha256=digest,
        answers=tuple(answer.value),
        raw_response=answer.raw,
        provenance=_provenance(teacher, "t2ia_answers", answer),
    )


async def iqa_questions(teacher: Teacher, pair: PairRecord, image: Picture) -> IQAQuestions:
    """Ask for the scene graph and the quality questions of an image.

    Args:
        teacher: whom to ask.
        pair: whose image it is.
        image: the same image, to be read.
    """
    path, digest = await image.read()
    answer = await teacher.ask(prompts.scene_request(path), parse_scene)
    scene_graph, questions = answer.value
    return IQAQuestions(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        image_sha256=digest,
        scene_graph=Raw(msgspec.json.encode(scene_graph)),
        questions=tuple(replace(question, kind="quality") for question in questions),
        provenance=_provenance(teacher, "iqa_questions", answer),
    )


async def iqa_answers(teacher: Teacher, pair: PairRecord, image: Picture, questions: Questions) -> IQAAnswers:
    """Ask for the answers and scores (1-5) of an image on its own quality questions.

    The score of the image is the mean of the answers' scores, 1-5.

    Args:
        teacher: whom to ask.
        pair: whose image it is.
        image: the same image, to be read.
        questions: of this image.
    """
    path, digest = await image.read()
    request = prompts.answers_request("iqa", path, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_iqa_answers(text, questions))
    return IQAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        image_sha256=digest,
        answers=tuple(answer.value),
        score=sum(one.score or 0 for one in answer.value) / len(answer.value),
        provenance=_provenance(teacher, "iqa_answers", answer),
    )


async def both(first: Awaitable[T], second: Awaitable[T]) -> tuple[T, T]:
    """Await two at once. When one fails, the other is cancelled, and has ended when this raises."""
    # `gather` alone would leave the other one running: its request would still cost money, and its error would be lost.
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        one, two = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return one, two


def _provenance(teacher: Teacher, workflow: Workflow, *answers: Answer[Any]) -> Provenance:
    # Attempts of the worse request and tokens of all: this is what the annotation took.
    return Provenance(
        model=teacher.engine.model,
        engine=teacher.engine.name,
        prompt_version=prompts.prompt_version(workflow),
        attempts=max(answer.attempts for answer in answers),
        usage=Usage(
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            completion_tokens=sum(answer.completion_tokens for answer in answers),
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
