"""The four annotations of a pair, each a function from what is known to a record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dyneval.records import IQAAnswers, IQAQuestions, PairRecord, T2IAAnswers, T2IAQuestions, Workflow
from dyneval.teacher import prompts
from dyneval.teacher.asking import Answer, Teacher
from dyneval.teacher.replies import BOUNDS, parse_answers, parse_questions, parse_scene, same_question

Questions = Sequence[dict[str, str]]


async def t2ia_questions(teacher: Teacher, prompt_id: str, prompt: str) -> T2IAQuestions:
    """Alignment and distortion questions of a prompt, merged; a question in both is kept as alignment question."""
    alignment, distortion = await _both(
        teacher.ask(prompts.alignment_request(prompt), partial(parse_questions, most=BOUNDS.alignment)),
        teacher.ask(prompts.distortion_request(prompt), partial(parse_questions, most=BOUNDS.distortion)),
    )
    return T2IAQuestions(
        prompt_id=prompt_id,
        prompt=prompt,
        questions=merge_questions(alignment.value, distortion.value),
        provenance=_provenance(teacher, "t2ia_questions", alignment, distortion),
    )


def merge_questions(alignment: Questions, distortion: Questions) -> list[dict[str, str]]:
    """Both lists as one, alignment first, each question with its `kind`; what is asked twice is kept once."""
    merged: dict[str, dict[str, str]] = {}
    for kind, questions in (("alignment", alignment), ("distortion", distortion)):
        for question in questions:
            merged.setdefault(same_question(question["question"]), {**question, "kind": kind})
    return list(merged.values())


async def t2ia_answers(teacher: Teacher, pair: PairRecord, image: Path, questions: Questions) -> T2IAAnswers:
    """Scores (1-5) of an image on its prompt's questions."""
    request = prompts.answers_request("t2ia", image, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_answers("t2ia", text, questions))
    return T2IAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        answers=answer.value,
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
        scene_graph=scene_graph,
        questions=[{**question, "kind": "quality"} for question in questions],
        provenance=_provenance(teacher, "iqa_questions", answer),
    )


async def iqa_answers(teacher: Teacher, pair: PairRecord, image: Path, questions: Questions) -> IQAAnswers:
    """Answers and scores (1-5) of an image on its own quality questions."""
    request = prompts.answers_request("iqa", image, pair.prompt, questions)
    answer = await teacher.ask(request, lambda text: parse_answers("iqa", text, questions))
    return IQAAnswers(
        pair_id=pair.pair_id,
        prompt=pair.prompt,
        answers=answer.value,
        score=mean_score(answer.value),
        provenance=_provenance(teacher, "iqa_answers", answer),
    )


def mean_score(answers: Sequence[dict[str, Any]]) -> float:
    """Mean of the answers' scores, 1-5. Raises ZeroDivisionError on an empty list, which no valid record has."""
    return sum(answer["score"] for answer in answers) / len(answers)


async def _both(first: Any, second: Any) -> tuple[Answer[Any], Answer[Any]]:
    """Await two requests at once; when one fails the other is called off."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        one, two = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return one, two


def _provenance(teacher: Teacher, workflow: Workflow, *answers: Answer[Any]) -> dict[str, Any]:
    return {
        "model": teacher.engine.model,
        "engine": teacher.engine.name,
        "prompt_version": prompts.prompt_version(workflow),
        "attempts": max(answer.attempts for answer in answers),
        "usage": {
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(answer.completion_tokens for answer in answers),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
