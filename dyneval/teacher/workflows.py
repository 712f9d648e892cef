"""The four annotations of a pair, each a function from what is known to a record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
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
    IQAAnswer,
    IQAAnswers,
    IQAQuestions,
    PairRecord,
    Provenance,
    Question,
    T2IAAnswer,
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
    """Alignment and distortion questions of a prompt, merged; a question in both is kept as alignment question."""
    alignment, distortion = await both(
        teacher.ask(prompts.alignment_request(prompt), partial(parse_questions, most=BOUNDS.alignment)),
        teacher.ask(prompts.distortion_request(prompt), partial(parse_questions, most=BOUNDS.distortion)),
    )
    return T2IAQuestions(
        prompt_id=prompt_id,
        prompt=prompt,
        questions=tuple(merge_questions(alignment.value, distortion.value)),
        provenance=_provenance(teacher, "t2ia_questions", alignment, distortion),
    )


def merge_questions(alignment: Questions, distortion: Questions) -> list[Question]:
    """Both lists as one, alignment first, each question with its `kind`; what is asked twice is kept once."""
    merged: dict[str, Question] = {}
    for question in alignment:
        merged.setdefault(same_question(question.question), replace(question, kind="alignment"))
    for question in distortion:
        merged.setdefault(same_question(question.question), replace(question, kind="distortion"))
    return list(merged.values())


class Picture:
    """The image of a pair, and the SHA-256 of its file, worked out once for all that is asked about it."""

    def __init__(self, root: Path, pair: PairRecord) -> None:
        self.root = root
        self.pair = pair
        self._digest: asyncio.Future[str] | None = None

    @property
    def path(self) -> Path:
        """Where it is. Raises ImageError when it leads out of the folder."""
        return resolve_below(self.root, self.pair.file_name)

    async def sha256(self) -> str:
        """SHA-256 of its bytes, in hex. Raises ImageError when it cannot be read."""
        if self._digest is None:
            path = self.path
            self._digest = asyncio.ensure_future(asyncio.to_thread(lambda: bytes_sha256(read_file(path, str(path)))))
        return await asyncio.shield(self._digest)


async def t2ia_answers(teacher: Teacher, pair: PairRecord, image: Picture, questions: Questions) -> T2IAAnswers:
    """Scores (1-5) of an image on its prompt's questions."""
    digest = await image.sha256()
    request = prompts.answers_request("t2ia", image.path, pair.prompt, questions)
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
    """Scene graph and quality questions of an image."""
    digest = await image.sha256()
    answer = await teacher.ask(prompts.scene_request(image.path), parse_scene)
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
    """Answers and scores (1-5) of an image on its own quality questions."""
    digest = await image.sha256()
    request = prompts.answers_request("iqa", image.path, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_iqa_answers(text, questions))
    return IQAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        image_sha256=digest,
        answers=tuple(answer.value),
        score=mean_score(answer.value),
        provenance=_provenance(teacher, "iqa_answers", answer),
    )


def mean_score(answers: Sequence[IQAAnswer | T2IAAnswer]) -> float:
    """Mean of the answers' scores, 1-5. Raises ZeroDivisionError on an empty list, which no valid record has."""
    return sum(answer.score or 0 for answer in answers) / len(answers)


async def both(first: Awaitable[T], second: Awaitable[T]) -> tuple[T, T]:
    """Await two at once; when one fails the other is called off, and has ended when this raises."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        one, two = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return one, two


def _provenance(teacher: Teacher, workflow: Workflow, *answers: Answer[Any]) -> Provenance:
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
