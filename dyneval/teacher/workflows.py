"""The four annotations of a pair, each a function from what is known to a record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

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


async def t2ia_questions(teacher: Teacher, prompt_id: str, prompt: str) -> T2IAQuestions:
    """Alignment and distortion questions of a prompt, merged; a question in both is kept as alignment question."""
    alignment, distortion = await _both(
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


async def t2ia_answers(teacher: Teacher, pair: PairRecord, image: Path, questions: Questions) -> T2IAAnswers:
    """Scores (1-5) of an image on its prompt's questions."""
    request = prompts.answers_request("t2ia", image, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_t2ia_answers(text, questions))
    return T2IAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        answers=tuple(answer.value),
        raw_response=answer.raw,
        provenance=_provenance(teacher, "t2ia_answers", answer),
    )


async def iqa_questions(teacher: Teacher, pair: PairRecord, image: Path) -> IQAQuestions:
    """Scene graph and quality questions of an image."""
    answer = await teacher.ask(prompts.scene_request(image), parse_scene)
    scene_graph, questions = answer.value
    return IQAQuestions(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        scene_graph=Raw(msgspec.json.encode(scene_graph)),
        questions=tuple(replace(question, kind="quality") for question in questions),
        provenance=_provenance(teacher, "iqa_questions", answer),
    )


async def iqa_answers(teacher: Teacher, pair: PairRecord, image: Path, questions: Questions) -> IQAAnswers:
    """Answers and scores (1-5) of an image on its own quality questions."""
    request = prompts.answers_request("iqa", image, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_iqa_answers(text, questions))
    return IQAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        answers=tuple(answer.value),
        score=mean_score(answer.value),
        provenance=_provenance(teacher, "iqa_answers", answer),
    )


def mean_score(answers: Sequence[IQAAnswer | T2IAAnswer]) -> float:
    """Mean of the answers' scores, 1-5. Raises ZeroDivisionError on an empty list, which no valid record has."""
    return sum(answer.score or 0 for answer in answers) / len(answers)


async def _both(first: Any, second: Any) -> tuple[Answer[Any], Answer[Any]]:
    """Await two requests at once; when one fails the other is called off."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        one, two = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
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
