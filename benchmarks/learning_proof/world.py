"""The data of the learning proof: demo scenes of one kind of thing, with short replies, in the training format.

    python benchmarks/learning_proof/world.py --output DIR

Writes images/ with a truth file beside each image, heldout.jsonl (pairs whose prompts are in no training file),
heldout_swapped.jsonl (the same, each with the image of another prompt), t2ia.json and iqa.json (the samples of Stages 1
and 2, evaluations in the form `readme`), t2ia_release.json and iqa_release.json (the same in the form `release`) and
captions.json (the warm-up: what is seen, in a few words).
Two cores spend most of a training step on the logits of 151,936 words, so fewer questions are asked than by the demo's
teacher, in fewer words; the scores that students are compared with are still the means over all of his.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from tqdm import tqdm

from dyneval import replies
from dyneval.demo import knowledge
from dyneval.demo import vocabulary as words
from dyneval.demo.models import DEMO_MODELS, draw
from dyneval.demo.prompts import write_prompt
from dyneval.demo.questions import ALIGNMENT, Question, ask, understand
from dyneval.demo.scenes import Group, Scene
from dyneval.demo.truth import Truth
from dyneval.files.atomic import atomic_write, write_json
from dyneval.hashing import file_sha256
from dyneval.records import InstructSample, PairRecord, Part, Turn, pair_id, prompt_id, student_json
from dyneval.tokens import evaluation_turn, iqa_turn, t2ia_turn

KINDS = ("ball", "house", "tree", "car", "star", "fish")
COLOURS = ("red", "yellow", "green", "blue", "black", "white")
SIZE = 128
"""Width and height of the images in pixels: 16 image tokens."""
TIER = 3
CAPTION_TURN = "<image>\nDescribe the picture."
FAULT_WORDS = {
    "noise": "noisy",
    "blur": "blurred",
    "seam": "cut by a seam",
    "torn": "torn",
    "melted": "melted",
    "cut_off": "cut off",
}
_DEGREES = ((0.35, "slightly"), (0.65, "clearly"), (1.0, "heavily"))
SHORT_QUESTIONS = {
    "presence": "{some}?",
    "colour": "{colour}?",
    "count": "{number}?",
    "no_blur": "no blur?",
    "no_noise": "no noise?",
    "shape": "good shape?",
    "blur": "sharp?",
    "noise": "clean?",
    "seam": "no seams?",
}
SHORT_REASONS = {5: "No fault.", 4: "Slight.", 3: "Clear.", 2: "Heavy.", 1: "Extreme."}

Sample = dict[str, Any]


def scene_prompts(count: int, rng: Random) -> list[str]:
    """`count` distinct prompts for one or two things of one kind and colour."""
    prompts: dict[str, None] = {}
    while len(prompts) < count:
        group = Group(kind=rng.choice(KINDS), colour=rng.choice(COLOURS), count=rng.choice((1, 1, 2)))
        prompts[write_prompt(Scene(groups=(group,)), TIER, rng)] = None
    return list(prompts)


def make_pair(prompt: str, model: str, images: Path) -> tuple[PairRecord, Truth]:
    """Draw `prompt` with a demo model; image and truth are written below `images`."""
    image, truth = draw(model, prompt, seed=0, size=SIZE)
    name = pair_id(prompt_id(prompt), model)
    path = images / f"{name}.png"
    image.save(path)
    truth.save(path)
    record = PairRecord(
        pair_id=name,
        file_name=path.name,
        prompt_id=prompt_id(prompt),
        prompt=prompt,
        tier=TIER,
        categories=[],
        generation_model=model,
        seed=0,
        width=SIZE,
        height=SIZE,
        settings={"family": "demo"},
        sha256=file_sha256(path),
    )
    return record, truth


def stage_samples(pair: PairRecord, truth: Truth, form: replies.ReplyForm) -> tuple[list[Sample], list[Sample]]:
    """The samples of a pair for Stage 1 (T2IA, EVALUATION) and Stage 2 (IQA, EVALUATION)."""
    alignment = [*knowledge.alignment_questions(pair.prompt)[:3], *_whole_image("no_blur", "no_noise")]
    quality = [*knowledge.quality_questions(truth)[:1], *_whole_image("blur", "noise", "seam")]
    reply = {"scene_graph": _scene_graph(truth), "questions": _rows(quality)}
    stage1 = [
        _sample(f"{pair.prompt_id}:t2ia", t2ia_turn(pair.prompt), _rows(alignment), None),
        _evaluation(pair, truth, form, "t2ia", alignment),
    ]
    return stage1, [
        _sample(f"{pair.pair_id}:iqa", iqa_turn(), reply, pair.file_name),
        _evaluation(pair, truth, form, "iqa", quality),
    ]


def caption_sample(pair: PairRecord, truth: Truth) -> Sample:
    """What is seen: faults with their degrees, then number, colour and kind. Dense, so it is learned first."""
    seen = [*(_seen_faults(truth) or ["clean"]), *_seen_groups(truth)]
    return _sample(f"{pair.pair_id}:caption", CAPTION_TURN, ", ".join(seen), pair.file_name)


def _seen_faults(truth: Truth) -> list[str]:
    faults = {fault.kind: _degree(fault.severity) for fault in truth.faults}
    return [f"{faults[kind]} {word}" for kind, word in FAULT_WORDS.items() if kind in faults]


def _seen_groups(truth: Truth) -> list[str]:
    return [f"{words.COUNTS[group.count]} {group.colour} {group.noun}" for group in truth.drawn.groups]


def _scene_graph(truth: Truth) -> dict[str, list[dict[str, Any]]]:
    group = truth.drawn.groups[0]
    attributes = [words.COUNTS[group.count], group.colour, *_seen_faults(truth)]
    return {"nodes": [{"id": group.kind, "label": group.noun, "attributes": attributes}], "edges": []}


def _degree(severity: float) -> str:
    return next(word for limit, word in _DEGREES if severity <= limit)


def _whole_image(*topics: str) -> list[knowledge.QuestionAnswer]:
    return [(ask(topic), "yes") for topic in topics]


def _rows(questions: list[knowledge.QuestionAnswer]) -> list[dict[str, str]]:
    return [{"question": _short(understand(question)), "answer": answer} for question, answer in questions]


def _short(question: Question) -> str:
    return SHORT_QUESTIONS[question.topic].format(**question.slots).capitalize()


class _Answer(NamedTuple):
    """What the ideal teacher says to a question."""

    question: str
    target_answer: str
    answer: str
    correct: bool
    reasoning: str
    score: int


def _evaluation(
    pair: PairRecord,
    truth: Truth,
    form: replies.ReplyForm,
    part: Part,
    questions: list[knowledge.QuestionAnswer],
) -> Sample:
    seen = f"{_seen_groups(truth)[0].capitalize()}."
    answers = []
    for text, target in questions:
        question = understand(text)
        score, _ = knowledge.answer(truth, text)
        reasoning = seen if question.topic in ALIGNMENT else SHORT_REASONS[score]
        passes = score >= 3
        given = target if passes else {"yes": "no", "no": "yes"}[target]
        answers.append(_Answer(_short(question), target, given, passes, reasoning, score))
    # As from a teacher: the score of the image rests on all of his questions, also on those not asked here.
    holistic = fmean(knowledge.answer(truth, text)[0] for text, _ in knowledge.quality_questions(truth))
    turn = evaluation_turn(pair.prompt, [answer.question for answer in answers])
    return _sample(f"{pair.pair_id}:evaluation", turn, replies.write(form, part, answers, holistic), pair.file_name)


def _sample(name: str, turn: str, reply: Any, image: str | None) -> Sample:
    value = reply if isinstance(reply, str) else student_json(reply)
    conversations = (Turn(speaker="human", value=turn), Turn(speaker="gpt", value=value))
    return InstructSample(id=name, image=image, conversations=conversations).to_dict()


def _draw_prompt(job: tuple[str, Path]) -> list[tuple[PairRecord, Truth]]:
    prompt, images = job
    return [make_pair(prompt, model, images) for model in DEMO_MODELS]


def build(output: Path, prompts: int, heldout: int, seed: int) -> None:
    """Draw all prompts with the three demo models, keep the last `heldout` prompts back, write the files."""
    images = output / "images"
    images.mkdir(parents=True, exist_ok=True)
    texts = scene_prompts(prompts + heldout, Random(f"learning proof {seed}"))
    captions: list[Sample] = []
    stages: dict[str, list[Sample]] = defaultdict(list)
    kept_back: list[PairRecord] = []
    for index, drawn in enumerate(_all_drawn(texts, images)):
        if index >= prompts:
            kept_back += [pair for pair, _ in drawn]
            continue
        for position, (pair, truth) in enumerate(drawn):
            for form in replies.REPLY_FORMS:
                first, second = stage_samples(pair, truth, form)
                ending = "" if form == replies.DEFAULT_FORM else f"_{form}"
                # The questions of a prompt serve all its images.
                stages[f"t2ia{ending}"] += first[1:] if position else first
                stages[f"iqa{ending}"] += second
            captions.append(caption_sample(pair, truth))
    for name, samples in {"captions": captions, **stages}.items():
        write_json(output / f"{name}.json", samples)
    others = [*kept_back[len(DEMO_MODELS) :], *kept_back[: len(DEMO_MODELS)]]
    swapped = [replace(pair, file_name=other.file_name) for pair, other in zip(kept_back, others, strict=True)]
    for name, pairs in {"heldout": kept_back, "heldout_swapped": swapped}.items():
        with atomic_write(output / f"{name}.jsonl") as file:
            file.writelines(json.dumps(pair.to_dict()) + "\n" for pair in pairs)


def _all_drawn(texts: list[str], images: Path) -> Iterator[list[tuple[PairRecord, Truth]]]:
    with ProcessPoolExecutor() as pool:
        jobs = pool.map(_draw_prompt, [(text, images) for text in texts], chunksize=8)
        yield from tqdm(jobs, total=len(texts), desc="draw", unit="prompt")


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Draw the data of the learning proof.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--prompts", type=int, default=2000, help="training prompts, three images each")
    parser.add_argument("--heldout", type=int, default=60, help="held-out prompts, three images each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    build(arguments.output, arguments.prompts, arguments.heldout, arguments.seed)


if __name__ == "__main__":
    main()
